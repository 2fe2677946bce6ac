package main

import "strings"

// Facts of our own choice, so common that nobody owns them.

type factTable struct {
	ask    []string // with {x}
	answer string
	both   bool // it holds the other way round, too
	rows   [][2]string
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
		[]string{"What is the opposite of {x}?", "Opposite of {x}?", "What is the contrary of {x}?", "Not {x}, but what?"},
		"The opposite of {x} is {y}.", true,
		rows("big small, hot cold, day night, up down, left right, good bad, fast slow, old new, high low, long short, light dark, wet dry, open closed, full empty, hard soft, rich poor, early late, near far, strong weak, thick thin, happy sad, true false, first last, black white, loud quiet, sweet sour, clean dirty, inside outside, always never, begin end, love hate, war peace, friend enemy, question answer, summer winter, heaven hell, north south, east west"),
	},
	{
		[]string{"What is the capital of {x}?", "Capital of {x}?", "Which city is the capital of {x}?"},
		"The capital of {x} is {y}.", false,
		rows("France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, England London, Ireland Dublin, Scotland Edinburgh, Austria Vienna, Switzerland Bern, Poland Warsaw, Russia Moscow, Greece Athens, Turkey Ankara, Egypt Cairo, Japan Tokyo, China Beijing, India New_Delhi, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Hungary Budapest, Belgium Brussels, Canada Ottawa, Cuba Havana, Kenya Nairobi, Peru Lima, Chile Santiago, Australia Canberra"),
	},
	{
		[]string{"What is the country with the capital {x}?", "Where is {x}?", "In which country is {x}?"},
		"{x} is in {y}.", false,
		rows("Paris France, Berlin Germany, Rome Italy, Madrid Spain, Lisbon Portugal, London England, Dublin Ireland, Vienna Austria, Warsaw Poland, Moscow Russia, Athens Greece, Cairo Egypt, Tokyo Japan, Oslo Norway, Stockholm Sweden, Helsinki Finland, Copenhagen Denmark, Budapest Hungary, Brussels Belgium"),
	},
	{
		[]string{"What colour is {x}?", "What is the colour of {x}?", "Which colour has {x}?"},
		"{X} is {y}.", false,
		rows("the_sky blue, grass green, snow white, blood red, coal black, the_sun yellow, a_lemon yellow, a_banana yellow, a_tomato red, chocolate brown, milk white, the_sea blue, a_carrot orange, an_orange orange, gold yellow, silver grey, an_elephant grey, a_frog green, a_cherry red, a_plum purple, a_rose red, salt white"),
	},
	{
		[]string{"What does {x} say?", "Which sound does {x} make?", "What sound does {x} make?"},
		"{X} says {y}.", false,
		rows("a_dog woof, a_cat meow, a_cow moo, a_sheep baa, a_duck quack, a_pig oink, a_hen cluck, a_horse neigh, a_bee buzz, a_mouse squeak, an_owl hoot, a_lion roar, a_frog croak, a_snake hiss, a_crow caw"),
	},
	{
		[]string{"What is a young {x} called?", "What do you call a young {x}?", "What is the baby of a {x}?"},
		"A young {x} is called a {y}.", false,
		rows("dog puppy, cat kitten, cow calf, sheep lamb, horse foal, hen chick, duck duckling, goat kid, pig piglet, bear cub, lion cub, deer fawn, goose gosling, swan cygnet, frog tadpole"),
	},
	{
		[]string{"What is the past of {x}?", "What is the past tense of {x}?", "Today I {x}. And yesterday?"},
		"Today I {x}, yesterday I {y}.", false,
		rows("go went, see saw, eat ate, drink drank, run ran, sing sang, come came, give gave, take took, write wrote, speak spoke, find found, buy bought, bring brought, think thought, know knew, sleep slept, swim swam, fly flew, win won, fall fell, break broke, begin began, sit sat, stand stood, tell told, sell sold, make made, walk walked, play played, look looked, ask asked, work worked, help helped"),
	},
	{
		[]string{"What is {x} in German?", "How do you say {x} in German?", "Translate {x} into German."},
		"In German, {x} is {y}.", false,
		rows("house Haus, dog Hund, cat Katze, tree Baum, water Wasser, bread Brot, book Buch, sun Sonne, moon Mond, day Tag, night Nacht, friend Freund, man Mann, woman Frau, child Kind, thanks danke, yes ja, no nein, good gut, hello hallo"),
	},
	{
		[]string{"What is {x} in French?", "How do you say {x} in French?", "Translate {x} into French."},
		"In French, {x} is {y}.", false,
		rows("house maison, dog chien, cat chat, tree arbre, water eau, bread pain, book livre, sun soleil, moon lune, day jour, night nuit, friend ami, man homme, woman femme, child enfant, thanks merci, yes oui, no non, good bon, hello bonjour"),
	},
	{
		[]string{"What is {x} used for?", "What do you do with {x}?", "What is {x} for?"},
		"{X} is for {y}.", false,
		rows("a_pen writing, a_knife cutting, a_cup drinking, a_bed sleeping, a_chair sitting, a_boat crossing_the_water, a_lamp making_light, a_key opening_doors, a_spoon eating_soup, a_broom sweeping, a_needle sewing, a_clock telling_the_time, an_oven baking, a_book reading, a_bell ringing, an_umbrella rainy_days"),
	},
	{
		[]string{"How many {x}?", "Do you know how many {x}?", "Tell me how many {x}."},
		"There are {y}.", false,
		rows("days_are_in_a_week seven_days_in_a_week, months_are_in_a_year twelve_months_in_a_year, hours_are_in_a_day twenty-four_hours_in_a_day, minutes_are_in_an_hour sixty_minutes_in_an_hour, seconds_are_in_a_minute sixty_seconds_in_a_minute, letters_are_in_the_alphabet twenty-six_letters_in_the_alphabet, days_are_in_a_year 365_days_in_a_year, seasons_are_in_a_year four_seasons_in_a_year"),
	},
}

var sequences = []struct {
	name, all string
	list      []string
}{
	{"day", "days of the week", strings.Fields("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")},
	{"month", "months of the year", strings.Fields("January February March April May June July August September October November December")},
	{"season", "seasons", strings.Fields("spring summer autumn winter")},
	{"letter", "letters of the alphabet", strings.Split("abcdefghijklmnopqrstuvwxyz", "")},
	{"planet", "planets", strings.Fields("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune")},
}

var creatures = []struct {
	name string
	can  []string
}{
	{"bird", []string{"fly", "sing", "lay eggs", "build a nest"}},
	{"fish", []string{"swim", "live under water", "lay eggs"}},
	{"dog", []string{"bark", "run", "swim", "guard a house"}},
	{"cat", []string{"climb a tree", "catch mice", "run", "see in the dark"}},
	{"cow", []string{"give milk", "eat grass", "walk"}},
	{"horse", []string{"run", "carry a rider", "eat grass", "pull a cart"}},
	{"bee", []string{"fly", "make honey", "sting"}},
	{"child", []string{"speak", "laugh", "read a book", "run", "sing"}},
	{"stone", []string{"lie still", "be heavy"}},
	{"tree", []string{"grow", "bear fruit", "stand in the wind"}},
	{"boat", []string{"float", "carry people", "cross a river"}},
	{"clock", []string{"tell the time", "tick"}},
	{"lamp", []string{"give light", "be lit"}},
	{"frog", []string{"jump", "swim", "lay eggs", "live under water"}},
	{"teacher", []string{"speak", "read a book", "write", "laugh"}},
	{"snake", []string{"creep", "lay eggs", "hiss"}},
	{"owl", []string{"fly", "see in the dark", "catch mice"}},
	{"ship", []string{"float", "carry people", "cross the sea"}},
}

var plurals = [][2]string{{"child", "children"}, {"man", "men"}, {"woman", "women"}, {"foot", "feet"}, {"tooth", "teeth"}, {"mouse", "mice"}, {"goose", "geese"}, {"sheep", "sheep"}, {"fish", "fish"}, {"leaf", "leaves"}, {"knife", "knives"}, {"wolf", "wolves"}, {"life", "lives"}, {"wife", "wives"}, {"half", "halves"}, {"loaf", "loaves"}, {"shelf", "shelves"}, {"thief", "thieves"}}

var (
	names   = strings.Fields("Anna Ben Clara David Emma Felix Greta Hans Ida Jonas Kim Lena Max Nina Otto Paula Rosa Sam Tom Uma Vera Will Yara Zoe Alice Bob Carol Dan Eve Frank Grace Henry Irene Jack Kate Leo Mary Nora Oscar Peter Ruth Simon Tina Victor Wanda Maria Ali Chen Priya Omar Yuki Ivan Olga Pablo Lucia")
	places  = strings.Fields("Paris Berlin Rome Madrid Lisbon London Dublin Vienna Warsaw Moscow Athens Cairo Tokyo Delhi Oslo Hamburg Munich Boston Chicago Texas Canada Brazil Kenya Peru Norway Wales Italy Spain France Japan")
	colours = strings.Fields("red blue green yellow black white brown orange purple grey pink")
	words   = strings.Fields("apple arm baby bag ball bank basket bath bear bed bee bell bird board boat body bone book bottle box boy branch bread bridge brother brush bucket building bush button cake candle car card carriage cart castle cat chain chair cheese chest child church circle city clock cloth cloud coat collar colour comb cook copper cord country cow crown cup curtain daughter day desk dish doctor dog door drawer dream dress drop duck ear earth egg engine eye face family farm father feather field finger fire fish flag floor flower foot forest fork fox friend frog fruit garden gate girl glass glove goat gold goose grass gun hair hammer hand hat head heart hill honey hook horn horse hospital house island jewel kettle key king kitchen kite knee knife lake lamp leaf leg letter library light line lion lip lock machine man map market match meal milk mirror money monkey month moon morning mother mountain mouse mouth music nail neck needle nest net night nose nut office orange oven owl page paper park pen pencil picture pig pin pipe plant plate plough pocket potato prison pump queen rabbit rain ring river road rod roof room root rose sail salt school scissors sea seed sheep shelf ship shirt shoe silver sister skirt sky snake snow soap sock son song soup spade sponge spoon spring square stamp star station stem stick stocking stomach stone store storm story street summer sun table tail thread throat thumb ticket toe tongue tooth town train tray tree trousers umbrella uncle village voice wall watch water wave wheel whip whistle window wing winter wire wolf woman wood wool word worm year")
	strange = strings.Split("quantum physics, black holes, the stock market, machine learning, chemistry, the French Revolution, politics, computers, football, the brain, evolution, electricity, medicine, law, philosophy, space travel, the internet, economics, biology, mathematics, algebra, geometry, music theory, cooking, taxes, climate change, cars, history, Rome, Shakespeare, Einstein, Napoleon, DNA, bitcoin, Linux, Python, JavaScript, neural networks, gravity, time, love, God, art, painting, photography, chess, dinosaurs, volcanoes, the ocean, the moon landing, vaccines, viruses, energy, democracy, trade, India, China, Africa, America, Europe, language, grammar, poetry, film, theatre, architecture, engines, robots, batteries, steel, glass, coffee, tea, wine, health, sleep, dreams, memory, sport, running, swimming, travel, trains, planes, ships, weather, maps", ", ")
)
