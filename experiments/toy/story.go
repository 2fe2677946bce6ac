package main

import (
	"fmt"
	"strings"
)

// Stories of a few lines. Who, where and what is drawn anew each time, so that there is something to learn but the words.

var (
	heroes = []string{"cat", "dog", "mouse", "fox", "bear", "bird", "frog", "rabbit", "hen", "horse", "boy", "girl", "king", "queen", "farmer", "sailor", "old man", "old woman", "baker", "wolf", "duck", "goat", "owl", "giant"}
	traits = []string{"small", "brave", "kind", "clever", "lazy", "hungry", "old", "young", "poor", "proud", "shy", "merry", "lonely", "curious", "quiet"}
	scenes = []string{"in a forest", "by the sea", "in a small house", "on a hill", "in a village", "on a farm", "near a river", "in a castle", "in a big city", "under an old tree", "on an island", "in a garden"}
	losses = []string{"hat", "key", "ball", "book", "ring", "coat", "boat", "spoon", "bell", "lamp", "shoe", "basket", "map", "coin", "flute", "kite"}
	hiding = []string{"under the bed", "behind the door", "in the tall grass", "under a stone", "in the barn", "on the roof", "in the well", "behind a tree", "in the river", "at the market", "in the kitchen", "in the cellar"}
	foods  = []string{"bread", "cheese", "soup", "apples", "honey", "cake", "milk", "nuts", "berries", "fish", "pears", "porridge"}
)

func (t teller) story() []string {
	hero := pick(t, heroes)
	if t.IntN(2) == 0 {
		hero = pick(t, words)
	}
	ask := t.of("Tell me a story.", "Tell me a short story.", "Can you tell me a story?", "Once upon a time", "Write a story.", "I would like to hear a story.", "Another story, please.")
	if t.IntN(4) > 0 {
		ask = fmt.Sprintf(t.of("Tell me a story about %s.", "Write a story about %s.", "Tell a short story about %s.", "I want a story about %s."), a(hero))
	}
	return []string{ask, t.plot(hero)}
}

func (t teller) plot(hero string) string {
	friend := pick(t, heroes)
	for friend == hero {
		friend = pick(t, heroes)
	}
	fill := strings.NewReplacer(
		"{hero}", hero, "{friend}", friend, "{a friend}", a(friend), "{trait}", pick(t, traits), "{a trait}", a(pick(t, traits)), "{scene}", pick(t, scenes),
		"{thing}", pick(t, losses), "{hiding}", pick(t, hiding), "{elsewhere}", pick(t, hiding), "{food}", pick(t, foods), "{name}", pick(t, names),
	)
	begin := t.of(
		"Once upon a time there was {a trait} {hero} who lived {scene}.",
		"There once was {a trait} {hero} {scene}.",
		"Long ago, {a trait} {hero} lived {scene}.",
		"{name} was {a trait} {hero} who lived {scene}.",
	)
	middle := t.of(
		"One day the {hero} lost a {thing}. The {hero} looked {hiding}, but it was not there. Then {a friend} came and said: \"I have seen your {thing}. It is {elsewhere}.\" And there it was.",
		"One morning the {hero} was very hungry, but there was no {food} left. So the {hero} went to the {friend} and asked for some. \"Take it,\" said the {friend}, \"there is enough for two.\"",
		"One night there was a storm, and the {hero} was afraid. There was a knock at the door. It was {a friend}, who was wet and cold. \"Come in,\" said the {hero}, and they ate {food} by the fire.",
		"One day the {hero} found a {thing} {hiding}. \"Whose {thing} is this?\" asked the {hero}. \"It is mine,\" said {a friend}, and was very glad to have it back.",
		"Every day the {hero} wanted to see the world. So one day the {hero} took some {food} and went away. On the way the {hero} met {a friend}, and they went on together.",
		"The {hero} had a {thing} and would not share it. But nobody came to play. So the {hero} gave the {thing} to {a friend}, and from then on they played every day.",
	)
	end := t.of(
		"From that day on the {hero} and the {friend} were friends.",
		"And they lived happily ever after.",
		"Then they both went home and slept very well.",
		"The {hero} never forgot that day.",
		"And if they have not gone away, they are still there.",
	)
	return fill.Replace(begin + " " + middle + " " + end)
}

func (t teller) poem() []string {
	rhyme := pick(t, [][2]string{{"day", "play"}, {"night", "light"}, {"sea", "me"}, {"tree", "free"}, {"house", "mouse"}, {"star", "far"}, {"rain", "again"}, {"sun", "run"}, {"sky", "high"}, {"snow", "go"}, {"cat", "hat"}, {"moon", "soon"}})
	second := pick(t, [][2]string{{"song", "long"}, {"hand", "land"}, {"door", "more"}, {"blue", "you"}, {"heart", "start"}, {"bell", "well"}, {"wind", "find"}, {"way", "stay"}})
	first := fmt.Sprintf(t.of("I saw the %s,\nI wanted to %s,", "I think of the %s,\nso near and so %s,", "There was a %s,\nit waited for %s,"), rhyme[0], rhyme[1])
	last := fmt.Sprintf(t.of("and then came a %s,\nit was not %s.", "I looked for a %s,\nbut there was no %s.", "it showed me the %s,\nand I thought of %s."), second[0], second[1])
	if t.IntN(3) == 0 {
		return []string{fmt.Sprintf(t.of("Write a poem about %s.", "A poem about %s, please."), t.word()), first + "\n" + last}
	}
	return []string{t.of("Write a poem.", "Tell me a poem.", "Can you write a poem?", "Make a rhyme.", "A short poem, please."), first + "\n" + last}
}
