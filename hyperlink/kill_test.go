package hyperlink_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
)

var (
	killRuns = flag.Int("kill.runs", 0, "seeded runs with kills; 0 means 2000, or 20 with -short")
	killSeed = flag.Int64("kill.seed", -1, "run this seed alone, and log what the chain says")
)

// TestAnAnswerSurvivesMachinesThatDie kills machines at moments drawn from a seed, in the middle of answers.
func TestAnAnswerSurvivesMachinesThatDie(t *testing.T) {
	if *killSeed >= 0 {
		synctest.Test(t, func(t *testing.T) { killing(t, uint64(*killSeed)) })
		return
	}
	runs := *killRuns
	if runs == 0 {
		if runs = 2000; testing.Short() {
			runs = 20
		}
	}
	var mu sync.Mutex
	stalls := map[int][]time.Duration{} // by how many machines die
	for seed := range uint64(runs) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				deaths, stall := killing(t, seed)
				mu.Lock()
				defer mu.Unlock()
				stalls[deaths] = append(stalls[deaths], stall...)
			})
		})
	}
	t.Cleanup(func() {
		report(t, "one death, without a standby", stalls[1], 1500*time.Millisecond)
		report(t, "two deaths, without standbys", stalls[2], 0)
	})
}

// report logs how long answers paused, and wants 95 of 100 pauses to be within the limit, if there is one.
func report(t *testing.T, what string, stalls []time.Duration, limit time.Duration) {
	t.Helper()
	if len(stalls) == 0 {
		return
	}
	slices.Sort(stalls)
	p95 := stalls[len(stalls)*95/100]
	t.Logf("%s: %d pauses, median %v, p95 %v, longest %v", what, len(stalls), stalls[len(stalls)/2], p95, stalls[len(stalls)-1])
	if limit > 0 && p95 > limit {
		t.Errorf("%s: the 95th of 100 pauses is %v, want at most %v", what, p95, limit)
	}
}

func killing(t *testing.T, seed uint64) (deaths int, stalls []time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 17))
	stages, lanes := 2+rng.IntN(3), 1+rng.IntN(4)
	deaths = 1 + rng.IntN(2)
	p := newPark(t, seed, stages+deaths, p2ptest.Faults{Latency: time.Duration(rng.IntN(5)) * time.Millisecond})
	p.shape = func(_ int, o *oracle) { o.delay = 5 * time.Millisecond }
	p.auditEvery = time.Hour // nobody computes along, but commitments have to fit
	p.tail = sharedBy(seed)
	c, err := p.chain(stages, lanes, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const steps = 60
	want, _ := greedy(t, alone{newOracle(0, oracleLayers, lanes)}, prompts(lanes, 5), steps, 0)
	var wg sync.WaitGroup
	for range deaths {
		at := time.Duration(rng.IntN(1500)) * time.Millisecond
		victim := 1 + rng.IntN(stages-1)
		wg.Go(func() {
			time.Sleep(at)
			p.kill(c.Stages()[victim].Node)
		})
	}
	defer wg.Wait()
	watched := &stopwatch{Runner: c}
	got, _ := greedy(t, watched, prompts(lanes, 5), steps, 0)
	wg.Wait()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d stages, %d lanes: got %v, want %v", stages, lanes, got, want)
	}
	p.reports.wantNone(t, " wrong: ")
	return deaths, watched.stalls
}

// sharedBy has the output matrix shared in every second seed.
func sharedBy(seed uint64) (tail int) { return int(seed%2) * oracleVocab / 2 }

// stopwatch notes steps that take long.
type stopwatch struct {
	engine.Runner
	stalls  []time.Duration
	longest time.Duration
}

func (s *stopwatch) Step(ctx context.Context, b engine.Batch) (engine.Output, error) {
	began := time.Now()
	out, err := s.Runner.Step(ctx, b)
	s.longest = max(s.longest, time.Since(began))
	if took := time.Since(began); took > 200*time.Millisecond {
		s.stalls = append(s.stalls, took)
	}
	return out, err
}

func TestAStandbyTakesOverAtOnce(t *testing.T) {
	var stalls []time.Duration
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			stages, lanes := 2+rng.IntN(2), 1+rng.IntN(4)
			p := newPark(t, seed, 2*stages-1, p2ptest.Faults{Latency: time.Millisecond})
			p.shape = func(_ int, o *oracle) { o.delay = 5 * time.Millisecond }
			p.tail = sharedBy(seed)
			c, err := p.chain(stages, lanes, true)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			want, _ := greedy(t, alone{newOracle(0, oracleLayers, lanes)}, prompts(lanes, 5), 60, 0)
			victim, at := c.Stages()[1+rng.IntN(stages-1)].Node, time.Duration(100+rng.IntN(600))*time.Millisecond
			time.AfterFunc(at, func() { p.kill(victim) })
			watched := &stopwatch{Runner: c}
			if got, _ := greedy(t, watched, prompts(lanes, 5), 60, 0); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("seed %d: got %v, want %v", seed, got, want)
			}
			stalls = append(stalls, watched.stalls...)
		})
	}
	report(t, "one death, with a standby", stalls, 300*time.Millisecond)
}

// TestAMachineThatIsWrongIsReplaced has one machine of a chain do what a broken or hostile one does.
func TestAMachineThatIsWrongIsReplaced(t *testing.T) {
	nan := float32(math.NaN())
	for name, fail := range map[string]func(b *engine.StageBatch, out *engine.StageOutput) error{
		"not a number": func(_ *engine.StageBatch, out *engine.StageOutput) error {
			for _, rows := range append(out.Logits, out.Hidden) {
				if len(rows) > 0 {
					rows[0] = nan
				}
			}
			return nil
		},
		"an error": func(*engine.StageBatch, *engine.StageOutput) error { return errors.New("out of memory") },
		"silence": func(*engine.StageBatch, *engine.StageOutput) error {
			time.Sleep(time.Hour)
			return nil
		},
	} {
		for bad := 1; bad <= 2; bad++ {
			t.Run(fmt.Sprintf("%s from machine %d of 3", name, bad), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPark(t, 1, 4, p2ptest.Faults{Latency: time.Millisecond})
					p.shape = func(node int, o *oracle) {
						o.delay = time.Millisecond
						if batches := 0; node == bad {
							o.fail = func(b *engine.StageBatch, out *engine.StageOutput) error {
								if batches++; batches < 10 { // some of which are the host's own, to measure it
									return nil
								}
								return fail(b, out)
							}
						}
					}
					c, err := p.chain(3, 2, false)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					want, _ := greedy(t, alone{newOracle(0, oracleLayers, 2)}, prompts(2, 5), 40, 0)
					began := time.Now()
					if got, _ := greedy(t, c, prompts(2, 5), 40, 0); fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("got %v, want %v", got, want)
					}
					if node := c.Stages()[bad].Node; node == p.nodes[bad].ID() {
						t.Error("the machine that is wrong is still in the chain")
					}
					if other := c.Stages()[3-bad].Node; other != p.nodes[3-bad].ID() {
						t.Error("a machine that is right was replaced")
					}
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("it took %v, want at most 10s", took)
					}
				})
			})
		}
	}
}

// TestNobodyElseIsBlamedWhileAMachineLoads has the machine that takes the place of one that computes nothing load for longer
// than any step may take.
func TestNobodyElseIsBlamedWhileAMachineLoads(t *testing.T) {
	for bad := 1; bad <= 2; bad++ {
		synctest.Test(t, func(t *testing.T) {
			p := newPark(t, 1, 5, p2ptest.Faults{Latency: time.Millisecond})
			p.shape = func(node int, o *oracle) {
				o.delay = time.Millisecond
				if batches := 0; node == bad {
					o.fail = func(*engine.StageBatch, *engine.StageOutput) error {
						if batches++; batches > 10 {
							time.Sleep(time.Hour)
						}
						return nil
					}
				}
			}
			var loading atomic.Int64
			p.load = loadFor(&loading)
			c, err := p.chain(3, 2, false)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			loading.Store(int64(50 * time.Second))
			wantSame(t, c, 40)
			p.wantReplaced(p.nodes[bad].ID().Short() + " late: it does no work")
		})
	}
}

func TestAMachineThatLeavesHandsItsPlaceOverFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 4, p2ptest.Faults{Latency: time.Millisecond})
		var slow atomic.Bool // another machine takes a while to load what the one that leaves has
		p.shape = func(_ int, o *oracle) {
			o.delay = 5 * time.Millisecond
			if slow.Load() {
				time.Sleep(2 * time.Second)
			}
		}
		c, err := p.chain(3, 2, false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow.Store(true)
		const steps = 200
		want, _ := greedy(t, alone{newOracle(0, oracleLayers, 2)}, prompts(2, 5), steps, 0)
		leaves := c.Stages()[1].Node
		left := make(chan time.Duration, 1)
		time.AfterFunc(300*time.Millisecond, func() {
			began := time.Now()
			p.hosts[1].Leave(t.Context())
			left <- time.Since(began)
		})
		watched := &stopwatch{Runner: c}
		if got, _ := greedy(t, watched, prompts(2, 5), steps, 0); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if c.Stages()[1].Node == leaves {
			t.Error("the machine that leaves is still in the chain")
		}
		if took := <-left; took < 2*time.Second || took > 5*time.Second {
			t.Errorf("it could leave after %v, want the 2s that the other took to load and not much more", took)
		}
		// The pause is that of filling the other's cache, a hundred batches of 5 ms, and not that of loading.
		if watched.longest > 1200*time.Millisecond {
			t.Errorf("the answer paused for %v, want less than the 2s of loading", watched.longest)
		}
	})
}

// TestALieIsFoundAndTheMachineReplaced has one machine give numbers that look right and are not.
func TestALieIsFoundAndTheMachineReplaced(t *testing.T) {
	for how := range 8 {
		standbys, bad, tail := how&1 != 0, 1+how>>1&1, sharedBy(uint64(how>>2))
		t.Run(fmt.Sprintf("machine %d of 3, standbys %t, output shared %t", bad, standbys, tail > 0), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPark(t, 1, 8, p2ptest.Faults{Latency: time.Millisecond})
				p.tail = tail
				p.shape = func(node int, o *oracle) {
					o.delay = time.Millisecond
					if batches := 0; node == bad {
						o.fail = func(_ *engine.StageBatch, out *engine.StageOutput) error {
							if batches++; batches > 20 && batches%3 == 0 {
								for _, rows := range append(out.Logits, out.Hidden) {
									switch {
									case len(rows) == 0:
									case rows[0] > 2: // a hidden state of the oracle
										rows[0] = float32(int(rows[0]) / 2)
									default:
										rows[0]++
									}
								}
							}
							return nil
						}
					}
				}
				p.auditEvery = 200 * time.Millisecond
				c, err := p.chain(3, 2, standbys)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				began := time.Now()
				found := talk(t, c, bad)
				if !strings.Contains(found, "found to compute wrongly") {
					t.Errorf("the answer under way ended with %q, want that it is said to be wrong", found)
				}
				t.Logf("found after %v", time.Since(began))
				// And then it is right again.
				want, _ := greedy(t, alone{newOracle(0, oracleLayers, 2)}, prompts(2, 5), 40, 0)
				if got, _ := greedy(t, c, prompts(2, 5), 40, 0); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("afterwards: got %v, want %v", got, want)
				}
			})
		})
	}
}

// TestAMachineThatWasFoundToLieIsNotTakenAgain has nobody else for the place.
func TestAMachineThatWasFoundToLieIsNotTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 3, p2ptest.Faults{Latency: time.Millisecond})
		p.shape = func(node int, o *oracle) {
			o.delay = time.Millisecond
			if batches := 0; node == 1 {
				o.fail = func(_ *engine.StageBatch, out *engine.StageOutput) error {
					if batches++; batches > 20 {
						for _, rows := range out.Logits {
							rows[0]++
						}
					}
					return nil
				}
			}
		}
		p.auditEvery = 200 * time.Millisecond
		c, err := p.chain(2, 1, true)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		one := func(pos int) error {
			_, err := c.Step(t.Context(), engine.Batch{Rows: []engine.Row{{Token: 3, Pos: pos, Logits: true}}})
			return err
		}
		for pos := 0; err == nil && pos < 500; pos++ {
			err = one(pos)
		}
		if err != nil && strings.Contains(err.Error(), "found to compute wrongly") { // and the chain may have ended by now
			if err = c.Trim(0, 0); err == nil {
				err = one(0)
			}
		}
		if err == nil || !strings.Contains(err.Error(), "nobody for its place") {
			t.Errorf("the chain says %v, want that there is nobody for the place", err)
		}
	})
}

// talk has two lanes answer until a stage of the chain was replaced, and returns how the last answer ended.
func talk(t *testing.T, c *hyperlink.Chain, stage int) (ended string) {
	t.Helper()
	bad := c.Stages()[stage].Node
	for began := time.Now(); c.Stages()[stage].Node == bad; {
		if time.Since(began) > time.Minute {
			t.Fatalf("machine %d is still in the chain after a minute", stage)
		}
		for seq := range 2 {
			if err := c.Trim(seq, 0); err != nil {
				t.Fatal(err)
			}
		}
		for pos := range 100 {
			b := engine.Batch{Rows: []engine.Row{{Token: 3, Seq: 0, Pos: pos, Logits: true}, {Token: 4, Seq: 1, Pos: pos, Logits: true}}}
			if _, err := c.Step(t.Context(), b); err != nil {
				ended = err.Error()
				break
			}
		}
	}
	return ended
}

func TestHonestMachinesStandUpToAudits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 5, p2ptest.Faults{Latency: time.Millisecond})
		p.shape = func(_ int, o *oracle) { o.delay = time.Millisecond }
		p.auditEvery = 300 * time.Millisecond
		c, err := p.chain(3, 3, false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		before := fmt.Sprint(c.Stages())
		want, _ := greedy(t, alone{newOracle(0, oracleLayers, 3)}, prompts(3, 5), 600, 0)
		if got, _ := greedy(t, c, prompts(3, 5), 600, 0); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if after := fmt.Sprint(c.Stages()); after != before {
			t.Errorf("a machine was replaced: %v, want %v", after, before)
		}
		if c.Audited() == 0 {
			t.Error("nothing was audited")
		}
	})
}

func TestMachinesGiveTheirAccountAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 1, 3, p2ptest.Faults{Latency: time.Millisecond})
		c, err := p.chain(3, 2, false)
		if err != nil {
			t.Fatal(err)
		}
		greedy(t, c, prompts(2, 5), 10, 0) // 5 and 6 tokens, and 9 more of each
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		accounts := c.Accounts()
		if len(accounts) != 2 {
			t.Fatalf("%d machines gave an account, want 2", len(accounts))
		}
		for _, a := range accounts {
			if a.TokensIn != 29 || a.TokensOut != 29 || a.Bytes != 29*oracleWidth*4 {
				t.Errorf("stage %d: %d tokens in, %d out, %d bytes, want 29, 29 and %d", a.Stage, a.TokensIn, a.TokensOut, a.Bytes, 29*oracleWidth*4)
			}
		}
	})
}

// A text that was read in two parts had two rows wanted of it. Another machine that reads it at once, later, does not
// contradict that.
func TestATextThatIsReadOtherwiseLaterIsNoLie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPark(t, 3, 3, p2ptest.Faults{})
		p.auditEvery = time.Hour
		c, err := p.chain(2, 1, false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text := prompts(1, wire.CommitTokens)[0]
		read := func(from, to int) {
			t.Helper()
			var b engine.Batch
			for i := from; i < to; i++ {
				b.Rows = append(b.Rows, engine.Row{Token: text[i], Pos: i, Logits: i == to-1})
			}
			if _, err := c.Step(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		read(0, len(text)/2)
		read(len(text)/2, len(text))
		time.Sleep(time.Second) // the commitment comes
		p.kill(c.Stages()[1].Node)
		if err := c.Trim(0, 0); err != nil {
			t.Fatal(err)
		}
		read(0, len(text))
		time.Sleep(time.Second)
		p.reports.wantNone(t, " wrong: ")
	})
}
