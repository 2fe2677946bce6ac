package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table writes rows in columns. The first row is the heading.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, printable(cell))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printable leaves out of a stranger's text what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}

// scaled writes n with the largest unit that leaves at least 1, and two or three digits that matter.
func scaled(n float64, step float64, units ...string) string {
	i := 0
	for n >= step && i < len(units)-1 {
		n /= step
		i++
	}
	digits := 1
	if n >= 100 || i == 0 {
		digits = 0
	}
	return strconv.FormatFloat(n, 'f', digits, 64) + units[i]
}

func bytesText[T int64 | uint64 | int](n T) string {
	return scaled(float64(n), 1000, " B", " kB", " MB", " GB", " TB")
}

func countText(n uint64) string { return scaled(float64(n), 1000, "", "K", "M", "B", "T") }

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// span writes a duration in its largest unit.
func span(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		word string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if d >= u.unit {
			return plural(int(d/u.unit), u.word)
		}
	}
	return plural(int(max(d, 0)/time.Second), "second")
}
