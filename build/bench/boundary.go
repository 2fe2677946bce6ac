package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/hyperlink"
	"github.com/quic-go/quic-go"
)

// boundaryWidths are those of the 0.5B shape and of a model of 7B.
var boundaryWidths = []int{896, 3584}

// mostBoundary is how much longer than bare QUIC a token may be under way between two stages, in microseconds.
const mostBoundary = 200

// boundaries measures what a boundary between two stages costs besides the network: the time of a token through a chain
// whose stages compute nothing, beside the round trip of 8 KiB over bare QUIC between the same two processes.
func (c config) boundaries() ([]*figure, error) {
	var all []*figure
	for _, width := range boundaryWidths {
		p50 := &figure{Name: fmt.Sprintf("boundary of %d p50, µs", width), Reference: "quic-go echo", Most: mostBoundary}
		p99 := &figure{Name: fmt.Sprintf("boundary of %d p99, µs", width), Reference: "quic-go echo", Most: mostBoundary}
		figures := []*figure{p50, p99}
		if !slices.ContainsFunc(figures, c.wants) {
			continue
		}
		if err := c.boundary(width, p50, p99); err != nil {
			return nil, err
		}
		p50.print()
		p99.print()
		all = append(all, figures...)
	}
	return all, nil
}

func (c config) boundary(width int, p50, p99 *figure) error {
	ctx := context.Background()
	var at stageReady
	stage, err := startWorker("stage", anyCore, stageSetup{}, &at)
	if err != nil {
		return err
	}
	defer stage.stop()
	m, err := startMember(headSeed, at.Address, nil)
	if err != nil {
		return err
	}
	defer m.stop()
	info := engine.Info{Layers: 2, Embedding: width, VocabSize: idleVocab, Context: roundTrips, Sequences: 1, BatchSize: 1}
	chain, err := m.chain(ctx, hyperlink.ChainConfig{Text: idleText{}, Table: idleTable(width), Own: newIdle(width, 1, roundTrips, false), Info: info}, 1)
	if err != nil {
		return err
	}
	defer chain.Close()
	echo, hangUp, err := dialEcho(ctx, at.Bare)
	if err != nil {
		return err
	}
	defer hangUp()
	for round := range c.runs + 1 {
		var ours, theirs [2]float64
		err := inTurn(round,
			func() (err error) { ours, err = throughChain(ctx, chain); return err },
			func() (err error) { theirs, err = micros(roundTrips, func(int) error { return echo() }); return err })
		if err != nil {
			return err
		}
		if round > 0 {
			p50.pairs = append(p50.pairs, pair{ours[0], theirs[0]})
			p99.pairs = append(p99.pairs, pair{ours[1], theirs[1]})
		}
	}
	return nil
}

// throughChain sends tokens one after the other, as an answer does.
func throughChain(ctx context.Context, c *hyperlink.Chain) ([2]float64, error) {
	if err := c.Trim(0, 0); err != nil {
		return [2]float64{}, err
	}
	return micros(roundTrips, func(i int) error {
		out, err := c.Step(ctx, engine.Batch{Rows: []engine.Row{{Pos: i, Logits: true, Top: 1}}})
		if err == nil && (len(out.Best) != 1 || len(out.Best[0]) != 1) {
			err = fmt.Errorf("%v came back, want one row with the likeliest token", out.Best)
		}
		return err
	})
}

// micros returns the median and the 99th percentile of n calls, in microseconds.
func micros(n int, call func(i int) error) (p [2]float64, err error) {
	i := 0
	p50, p99, err := times(n, func() error { i++; return call(i - 1) })
	return [2]float64{1e6 / p50, 1e6 / p99}, err
}

// dialEcho returns a function that sends 8 KiB over one stream of bare QUIC and waits for them to come back.
func dialEcho(ctx context.Context, address string) (echo func() error, hangUp func(), err error) {
	config, err := tlsBare()
	if err != nil {
		return nil, nil, err
	}
	conn, err := quic.DialAddr(ctx, address, config, nil)
	if err != nil {
		return nil, nil, err
	}
	hangUp = func() { _ = conn.CloseWithError(0, "") }
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		hangUp()
		return nil, nil, err
	}
	message := make([]byte, messageSize)
	if _, err := s.Write([]byte("e")); err != nil {
		hangUp()
		return nil, nil, err
	}
	return func() error {
		if _, err := s.Write(message); err != nil {
			return err
		}
		_, err := io.ReadFull(s, message)
		return err
	}, hangUp, nil
}

// idleText and idleTable are what a chain needs besides layers.
type idleText struct{ hyperlink.Text }

func (idleText) Close() error { return nil }

type idleTable int // the width

func (w idleTable) Close() error { return nil }
func (w idleTable) Lookup(out []float32, tokens ...engine.Token) ([]float32, error) {
	return append(out, make([]float32, int(w)*len(tokens))...), nil
}
