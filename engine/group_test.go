package engine

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// weights are what steps cost where reading the weights takes as long as computing four rows.
func weights(rows int) time.Duration { return time.Duration(4+rows) * time.Millisecond }

// Chats that came in any order find together to steps that are computed in one pass.
func TestAnswersAreComputedInOnePassWhereTheyCanBe(t *testing.T) {
	const chats, n = 8, 300
	for name, prompt := range map[string]func(chat int) int{
		"prompts of the same length":            func(int) int { return 16 },
		"every other prompt is long":            func(chat int) int { return 16 + 300*(chat%2) },
		"each prompt longer than the previous":  func(chat int) int { return 16 + 50*chat },
		"each prompt shorter than the previous": func(chat int) int { return 16 + 50*(chats-chat) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newOracle(chats, 1000)
				m.info.BatchSize, m.endless = 512, true
				together := togetherOf(m, chats, n/4)
				e := guessing(t, newMachines(m, 2, weights, 0), 0, nobody{})
				defer e.Close()
				var wg sync.WaitGroup
				for i := range chats {
					wg.Go(func() {
						if got, _, err := hear(t.Context(), e, ask(strings.Repeat(string(rune('a'+i)), prompt(i)), n), nil); err != nil || len(got.text) != n {
							t.Errorf("chat %d: got %d tokens, %v", i, len(got.text), err)
						}
					})
				}
				wg.Wait()
				if got := float64(together.passes) / float64(together.steps); together.steps < 50 || got > 1.1 {
					t.Errorf("%d steps took %.2f passes each, want 1", together.steps, got)
				}
			})
		})
	}
}

// together counts the steps of an oracle, and in how many passes llama.cpp would compute them.
type together struct{ steps, passes int }

// togetherOf counts when each of so many chats has had some tokens in steps without prompts.
func togetherOf(m *oracleModel, chats, some int) *together {
	c, tokens := &together{}, map[int]int{}
	m.fail = func(b Batch) error {
		if wantedRows(b) != len(b.Rows) {
			clear(tokens)
			return nil
		}
		least := some
		for _, r := range b.Rows {
			tokens[r.Seq]++
		}
		for seq := range chats {
			least = min(least, tokens[seq])
		}
		if least < some {
			return nil
		}
		c.steps++
		for i, r := range b.Rows {
			if i == 0 || r.Seq != b.Rows[i-1].Seq+1 {
				c.passes++
			}
		}
		return nil
	}
	return c
}
