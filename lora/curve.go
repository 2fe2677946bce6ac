package lora

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
)

// Smooth is the mean of each loss and those around it, within a fiftieth of all: single blocks differ more than steps do.
func Smooth(losses []float64) []float64 {
	reach := len(losses) / 100
	out := make([]float64, len(losses))
	for i := range losses {
		near := losses[max(0, i-reach):min(len(losses), i+reach+1)]
		for _, l := range near {
			out[i] += l / float64(len(near))
		}
	}
	return out
}

// Chart draws losses with characters: so many columns, and lines, of which each column has one mark. What it shows is said
// in words, too, for who does not see it: from what to what the loss went.
func Chart(losses []float64, columns, lines int) string {
	if len(losses) == 0 || columns < 1 || lines < 1 {
		return ""
	}
	smooth := Smooth(losses)
	low, high := slices.Min(smooth), slices.Max(smooth)
	grid := make([][]rune, lines)
	for i := range grid {
		grid[i] = []rune(strings.Repeat(" ", columns))
	}
	for x := range columns {
		l := smooth[x*len(smooth)/columns]
		y := 0
		if high > low {
			y = int(math.Round((high - l) / (high - low) * float64(lines-1)))
		}
		grid[y][x] = '•'
	}
	var b strings.Builder
	for i, row := range grid {
		label := ""
		switch i {
		case 0:
			label = fmt.Sprintf("%.2f", high)
		case lines - 1:
			label = fmt.Sprintf("%.2f", low)
		}
		fmt.Fprintf(&b, "%8s │%s\n", label, strings.TrimRight(string(row), " "))
	}
	fmt.Fprintf(&b, "%8s └%s\n", "", strings.Repeat("─", columns))
	fmt.Fprintf(&b, "%8s  loss from %.2f to %.2f in %d steps\n", "", smooth[0], smooth[len(smooth)-1], len(losses))
	return b.String()
}

// The picture that WriteSVG draws, in its own units.
const (
	svgWidth, svgHeight = 800, 400
	svgMargin           = 50
	svgPoints           = 1500 // of a line, at most: nobody sees more
)

// WriteSVG draws losses, and in front of them their smooth course.
func WriteSVG(w io.Writer, losses []float64, title string) error {
	if len(losses) == 0 {
		return nil
	}
	smooth := Smooth(losses)
	low, high := slices.Min(losses), slices.Max(losses)
	line := func(values []float64, style string) string {
		var points []string
		for i := 0; i < len(values); i += (len(values)-1)/svgPoints + 1 {
			l := values[i]
			x := svgMargin + float64(i)/float64(max(len(values)-1, 1))*(svgWidth-2*svgMargin)
			y := svgMargin + (high-l)/max(high-low, 1e-9)*(svgHeight-2*svgMargin)
			points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
		}
		return fmt.Sprintf(`<polyline fill="none" %s points="%s"/>`, style, strings.Join(points, " "))
	}
	says := fmt.Sprintf("%s: the loss went from %.3f to %.3f nats a token in %d steps", title, smooth[0], smooth[len(smooth)-1], len(losses))
	label := func(x, y int, anchor, text string) string {
		return fmt.Sprintf(`<text x="%d" y="%d" text-anchor="%s" font-family="sans-serif" font-size="14">%s</text>`, x, y, anchor, html.EscapeString(text))
	}
	parts := []string{
		fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`, svgWidth, svgHeight, html.EscapeString(says)),
		`<rect width="100%" height="100%" fill="white"/>`,
		line(losses, `stroke="#bbbbbb" stroke-width="1"`),
		line(smooth, `stroke="#0b57d0" stroke-width="2"`),
		label(svgWidth/2, svgMargin/2+5, "middle", says),
		label(svgMargin-6, svgMargin+5, "end", fmt.Sprintf("%.2f", high)),
		label(svgMargin-6, svgHeight-svgMargin+5, "end", fmt.Sprintf("%.2f", low)),
		label(svgMargin, svgHeight-svgMargin+25, "start", "1"),
		label(svgWidth-svgMargin, svgHeight-svgMargin+25, "end", fmt.Sprint(len(losses))),
		"</svg>",
	}
	_, err := io.WriteString(w, strings.Join(parts, "\n")+"\n")
	return err
}
