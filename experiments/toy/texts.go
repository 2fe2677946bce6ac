package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/centram/centram"
)

// book is a text whose copyright has expired, and where it is found: as test data of a Go module. The module's licence is
// that of its code. All were published before 1930, by people who have been dead for more than 80 years.
type book struct {
	title, author string
	module, file  string
	sha256        string // of the file
	from, to      string // what stands before and behind the text in the file
}

var books = []book{
	{
		title: "Alice's Adventures in Wonderland (1865)", author: "Lewis Carroll",
		module: "github.com/dsnet/compress@v0.0.1", file: "brotli/testdata/alice29.txt",
		sha256: "7467306ee0feed4971260f3c87421154a05be571d944e9cb021a5713700c38f0",
		from:   "MILLENNIUM FULCRUM EDITION 2.9\n", to: "THE END",
	},
	{
		title: "The Adventures of Tom Sawyer (1876)", author: "Mark Twain",
		module: "github.com/dsnet/compress@v0.0.1", file: "testdata/twain.txt",
		sha256: "b55ba30f33a37191ce2778b8b60c205abf50b07232e551b59000bb38c7b8f5a6",
		from:   "T O M   S A W Y E R\n", to: "End of the Project Gutenberg",
	},
	{
		title: "The Adventures of Sherlock Holmes (1892)", author: "Arthur Conan Doyle (died 1930)",
		module: "github.com/sajari/fuzzy@v1.0.0", file: "data/big.txt",
		sha256: "fa066c7d40f0f201ac4144e652aa62430e58a6b3805ec70650f678da5804e87b",
		from:   "The Adventure of the Copper Beeches\n", to: "*** END OF THE PROJECT GUTENBERG EBOOK, THE ADVENTURES",
	},
	{
		title: "War and Peace (1869)", author: "Leo Tolstoy, translated by Louise (died 1939) and Aylmer Maude (died 1938)",
		module: "github.com/sajari/fuzzy@v1.0.0", file: "data/big.txt",
		sha256: "fa066c7d40f0f201ac4144e652aa62430e58a6b3805ec70650f678da5804e87b",
		from:   "by Leo Tolstoy/Tolstoi\n", to: "*** END OF THE PROJECT GUTENBERG EBOOK, WAR AND PEACE",
	},
}

// pieceBytes is about how long a stretch of a book is that is trained on, or held out, as one.
const pieceBytes = 3000

// pieces returns the book's text in stretches of whole paragraphs.
func (b book) pieces() ([]string, error) {
	text, err := b.read()
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", b.title, err)
	}
	var out []string
	var piece strings.Builder
	for _, p := range paragraphs(text) {
		if piece.Len() > 0 {
			piece.WriteString("\n\n")
		}
		piece.WriteString(p)
		if piece.Len() >= pieceBytes {
			out = append(out, piece.String())
			piece.Reset()
		}
	}
	if piece.Len() > 0 {
		out = append(out, piece.String())
	}
	return out, nil
}

// read has Go fetch the module, and finds the text in the file.
func (b book) read() (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", b.module)
	cmd.Dir, cmd.Stderr = os.TempDir(), os.Stderr // outside of this module: it needs the text, not the code
	answer, err := cmd.Output()
	if err != nil {
		return "", centram.Errorf(centram.Unavailable, "go mod download %s: %w", b.module, err).WithHint("The texts are fetched as Go modules are. Is the network there?")
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(answer, &got); err != nil {
		return "", fmt.Errorf("read what go mod download says: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(got.Dir, b.file))
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != b.sha256 {
		return "", centram.Errorf(centram.Invalid, "%s is another file than the model was made from", b.file)
	}
	_, text, found := strings.Cut(strings.ReplaceAll(string(raw), "\r\n", "\n"), b.from)
	text, _, ends := strings.Cut(text, b.to)
	if !found || !ends {
		return "", centram.Errorf(centram.Invalid, "its beginning or its end is not in %s", b.file)
	}
	return text, nil
}

var (
	blank = regexp.MustCompile(`\n[ \t]*\n\s*`)
	space = regexp.MustCompile(`\s+`)
	plain = strings.NewReplacer("_", "", "`", "'", "--", " - ")
)

// paragraphs makes one line of each paragraph. Headings go, and what is not ASCII.
func paragraphs(text string) []string {
	var out []string
	for _, p := range blank.Split(text, -1) {
		p = strings.TrimSpace(space.ReplaceAllString(plain.Replace(p), " "))
		p = strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, p)
		if p == "" || p == strings.ToUpper(p) || strings.HasPrefix(p, "CHAPTER") || strings.Trim(p, "* ") == "" {
			continue
		}
		out = append(out, p)
	}
	return out
}
