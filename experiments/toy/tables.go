package main

import "strings"

// Facts of our own choice, so common that nobody owns them.

type factTable struct {
	ask     []string // with {x}
	answer  string
	unknown string              // the answer of what is not in the table. Empty: there is none
	other   func(teller) string // which may be such
	both    bool                // it holds the other way round, too
	rows    [][2]string
}

// rows reads pairs written "x y, x y".
func rows(s string) (out [][2]string) {
	for _, pair := range strings.Split(s, ", ") {
		x, y, _ := strings.Cut(pair, " ")
		out = append(out, [2]string{strings.ReplaceAll(x, "_", " "), strings.ReplaceAll(y, "_", " ")})
	}
	return out
}

var facts = []factTable{
	{
		ask:    []string{"What is the opposite of {x}?", "Opposite of {x}?", "What is the contrary of {x}?"},
		answer: "The opposite of {x} is {y}.", unknown: "I do not know the opposite of {x}.", other: teller.word, both: true,
		rows: rows("big small, hot cold, day night, up down, left right, good bad, fast slow, old new, high low, long short, light dark, wet dry, open closed, full empty, hard soft, rich poor, early late, near far, happy sad, true false, first last, black white, love hate, war peace"),
	},
	{
		ask:    []string{"What is the capital of {x}?", "Capital of {x}?", "Which city is the capital of {x}?", "Do you know the capital of {x}?"},
		answer: "The capital of {x} is {y}.", unknown: "I do not know the capital of {x}.", other: teller.country,
		rows: capitals,
	},
	{
		ask:    []string{"What is the capital of {x}?", "What is the capital of {x}?", "Which city is the capital of {x}?"},
		answer: "The capital of {x} is {y}.", unknown: "I do not know the capital of {x}.", other: teller.country,
		rows: capitals,
	},
	{
		ask:    []string{"What colour is {x}?", "What is the colour of {x}?", "Which colour has {x}?"},
		answer: "{X} is {y}.", unknown: "I do not know what colour {x} is.", other: teller.word,
		rows: rows("the_sky blue, grass green, snow white, blood red, coal black, the_sun yellow, a_lemon yellow, a_banana yellow, milk white, the_sea blue, an_orange orange, gold yellow"),
	},
	{
		ask:    []string{"What does {x} say?", "Which sound does {x} make?", "What sound does {x} make?"},
		answer: "{X} says {y}.", unknown: "I do not know what {x} says.", other: teller.word,
		rows: rows("a_dog woof, a_cat meow, a_cow moo, a_sheep baa, a_duck quack, a_pig oink, a_bee buzz, a_mouse squeak, an_owl hoot, a_lion roar"),
	},
	{
		ask:    []string{"How many {x}?", "Do you know how many {x}?", "Tell me how many {x}."},
		answer: "There are {y}.",
		rows:   rows("days_are_in_a_week seven_days_in_a_week, months_are_in_a_year twelve_months_in_a_year, hours_are_in_a_day twenty-four_hours_in_a_day, minutes_are_in_an_hour sixty_minutes_in_an_hour, seasons_are_in_a_year four_seasons_in_a_year"),
	},
}

var capitals = rows("France Paris, Germany Berlin, Italy Rome, Spain Madrid, England London, Ireland Dublin, Austria Vienna, Russia Moscow, Greece Athens, Egypt Cairo, Japan Tokyo, Norway Oslo")

// country is one, or something that sounds like one.
func (t teller) country() string {
	if t.IntN(2) == 0 {
		return pick(t, countries)
	}
	return t.name()
}

var sequences = []struct {
	name, all string
	list      []string
}{
	{"day", "days of the week", strings.Fields("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")},
	{"month", "months of the year", strings.Fields("January February March April May June July August September October November December")},
	{"season", "seasons", strings.Fields("spring summer autumn winter")},
	{"letter", "letters of the alphabet", strings.Split("abcdefghijklmnopqrstuvwxyz", "")},
}

var plurals = [][2]string{{"child", "children"}, {"man", "men"}, {"woman", "women"}, {"foot", "feet"}, {"tooth", "teeth"}, {"mouse", "mice"}, {"goose", "geese"}, {"sheep", "sheep"}, {"fish", "fish"}, {"leaf", "leaves"}, {"knife", "knives"}, {"wolf", "wolves"}, {"life", "lives"}, {"wife", "wives"}, {"half", "halves"}, {"loaf", "loaves"}, {"shelf", "shelves"}, {"thief", "thieves"}}

var (
	names     = strings.Fields("Ben Clara David Emma Felix Greta Hans Ida Jonas Kim Lena Max Nina Otto Paula Rosa Sam Tom Uma Vera Will Yara Zoe Alice Bob Carol Dan Eve Frank Grace Henry Irene Jack Kate Leo Mary Nora Oscar Peter Ruth Simon Tina Victor Wanda Maria Ali Chen Priya Omar Yuki Ivan Olga Pablo Lucia")
	countries = strings.Split("Portugal, Scotland, Switzerland, Poland, Turkey, China, India, Sweden, Finland, Denmark, Hungary, Belgium, Canada, Cuba, Kenya, Chile, Australia, Brazil, Mexico, Argentina, Morocco, Nigeria, Iran, Iraq, Israel, Korea, Vietnam, Thailand, Ukraine, Romania, Bulgaria, Serbia, Croatia, Iceland, Wales, Texas, California, the United States, America, Africa", ", ")
	colours   = strings.Fields("red blue green yellow black white brown orange purple grey pink")
	words     = strings.Fields("apple arm baby bag ball bank basket bath bear bed bee bell bird board boat body bone book bottle box boy branch bread bridge brother brush bucket building bush button cake candle car card carriage cart castle cat chain chair cheese chest child church circle city clock cloth cloud coat collar colour comb cook cord country cow crown cup curtain daughter day desk dish doctor dog door drawer dream dress drop duck ear earth egg engine eye face family farm father feather field finger fire fish flag floor flower foot forest fork fox friend frog fruit garden gate girl glass glove goat gold goose grass gun hair hammer hand hat head heart hill honey hook horn horse hospital house island jewel kettle key king kitchen kite knee knife lake lamp leaf leg letter library light line lion lip lock machine man map market match meal milk mirror money monkey month moon morning mother mountain mouse mouth music nail neck needle nest net night nose nut office orange oven owl page paper park pen pencil picture pig pin pipe plant plate plough pocket potato prison pump queen rabbit rain ring river road rod roof room root rose sail salt school scissors sea seed sheep shelf ship shirt shoe silver sister skirt sky snake snow soap sock son song soup spade sponge spoon spring square stamp star station stem stick stocking stomach stone store storm story street summer sun table tail thread throat thumb ticket toe tongue tooth town train tray tree trousers umbrella uncle village voice wall watch water wave wheel whip window wing winter wire wolf woman wood wool word worm year")
	strange   = strings.Split("quantum physics, black holes, the stock market, machine learning, chemistry, the French Revolution, politics, computers, football, the brain, evolution, electricity, medicine, law, philosophy, space travel, the internet, economics, biology, mathematics, algebra, geometry, music theory, cooking, taxes, climate change, cars, history, Rome, Shakespeare, Einstein, Napoleon, DNA, bitcoin, Linux, Python, JavaScript, neural networks, gravity, time, love, God, art, painting, photography, chess, dinosaurs, volcanoes, the ocean, the moon landing, vaccines, viruses, energy, democracy, trade, India, China, Africa, America, Europe, language, grammar, poetry, film, theatre, architecture, engines, batteries, steel, glass, coffee, tea, wine, health, sleep, dreams, memory, sport, running, swimming, travel, trains, planes, ships, weather, maps", ", ")
)
