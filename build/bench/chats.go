package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	nChats      = 8
	chatContext = 1024 // tokens for each chat
	// settle is waited before a round: the compute threads of the server that was asked before spin for a while, waiting
	// for more, and would take a core from the one that is measured.
	settle = 2 * time.Second
)

// chats compares two, four and eight conversations at once, through HTTP, with llama-server of as many slots. Both servers
// are up all the time and asked the same in turn; every round asks something new, so no cache of a prompt helps.
func (c config) chats(model string) ([]*figure, error) {
	var figures []*figure
	at := map[*figure]int{}
	for _, many := range []int{2, 4, nChats} {
		f := &figure{Name: fmt.Sprint(many, " chats q4_k_m"), Reference: "llama-server", Floor: 1}
		if c.wants(f) {
			figures, at[f] = append(figures, f), many
		}
	}
	if len(figures) == 0 {
		return nil, nil
	}
	home, err := os.MkdirTemp("", "centram-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(home)
	n := func(v int) string { return fmt.Sprint(v) }
	ours, err := serve(func(addr string) *exec.Cmd {
		cmd := exec.Command(c.centram, "serve", "--no-peers", "--listen", addr, "--model", model, "--parallel", n(nChats), "--ctx", n(chatContext), "--threads", n(c.threads))
		cmd.Env = append(os.Environ(), "CENTRAM_HOME="+home)
		return cmd
	})
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	theirs, err := serve(func(addr string) *exec.Cmd {
		_, port, _ := net.SplitHostPort(addr)
		return exec.Command(filepath.Join(c.tools, "llama-server"), "-m", model, "--host", "127.0.0.1", "--port", port,
			"-np", n(nChats), "-c", n(nChats*chatContext), "-t", n(c.threads))
	})
	if err != nil {
		return nil, err
	}
	defer theirs.stop()
	ours.file = strings.TrimSuffix(filepath.Base(model), filepath.Ext(model))
	theirs.file = ours.file
	for _, f := range figures {
		if err := c.chatsAt(f, at[f], ours, theirs); err != nil {
			return nil, err
		}
		f.print()
	}
	return figures, nil
}

// chatsAt fills a figure with rounds of so many chats.
func (c config) chatsAt(f *figure, many int, ours, theirs *process) error {
	for round := range c.runs + 1 {
		var p pair
		salt := (many*100 + round) * nChats
		err := inTurn(round,
			func() (err error) { p.ours, err = ours.round(many, salt, c.gen); return err },
			func() (err error) { p.theirs, err = theirs.round(many, salt, c.gen); return err })
		if err != nil {
			return err
		}
		if round > 0 {
			f.pairs = append(f.pairs, p)
		}
	}
	return nil
}

// process is a server under measurement.
type process struct {
	url  string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan error
	file string // of the model, without its extension
}

func serve(command func(addr string) *exec.Cmd) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	p := &process{url: "http://" + addr, cmd: command(addr), log: &bytes.Buffer{}, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	for range 600 {
		select {
		case err := <-p.done:
			return nil, fmt.Errorf("%s ended: %w\n%s", p.cmd.Path, err, p.log)
		case <-time.After(100 * time.Millisecond):
		}
		if resp, err := http.Get(p.url + "/health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, nil
			}
		}
	}
	p.stop()
	return nil, fmt.Errorf("%s was not ready within a minute\n%s", p.cmd.Path, p.log)
}

func (p *process) stop() {
	p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// model is the name by which the server calls the model that is measured.
func (p *process) model() (string, error) {
	resp, err := http.Get(p.url + "/v1/models")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var list struct {
		Data []struct{ ID string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return "", fmt.Errorf("read the list of models: %w", err)
	}
	for _, m := range list.Data { // Centram brings a toy, too
		if strings.Contains(m.ID, p.file) {
			return m.ID, nil
		}
	}
	return "", fmt.Errorf("%s is not among the %d models", p.file, len(list.Data))
}

// round asks many chats at once and returns generated tokens per second of wall time, reading the prompts included.
func (p *process) round(many, salt, gen int) (float64, error) {
	model, err := p.model()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Base(p.cmd.Path), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	time.Sleep(settle)
	var wg sync.WaitGroup
	tokens, errs := make([]int, many), make([]error, many)
	began := time.Now()
	for i := range many {
		wg.Go(func() { tokens[i], errs[i] = p.chat(ctx, model, salt+i, gen) })
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	sum := 0
	for _, n := range tokens {
		sum += n
	}
	if err := errors.Join(errs...); err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Base(p.cmd.Path), err)
	}
	return float64(sum) / took, nil
}

func (p *process) chat(ctx context.Context, model string, salt, gen int) (int, error) {
	words := make([]string, 60)
	for i := range words {
		words[i] = []string{"tree", "river", "seven", "cloud", "green", "walks", "stone", "night"}[(salt*31+i*(salt%5+3))%8]
	}
	body, err := json.Marshal(map[string]any{
		"model": model, "max_tokens": gen, "temperature": 0,
		"messages": []map[string]string{{"role": "user", "content": fmt.Sprint(salt, " ", strings.Join(words, " "))}},
	})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Usage struct {
			Tokens int `json:"completion_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d: %s", resp.StatusCode, raw)
	}
	return answer.Usage.Tokens, nil
}
