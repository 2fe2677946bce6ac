package download

import "time"

// Meter says how fast something is. Its zero value is ready.
type Meter struct {
	at   []time.Time
	done []int64
}

// window is how long the speed is averaged over.
const window = 5 * time.Second

// Add takes in how far it is now, and returns bytes a second.
func (m *Meter) Add(now time.Time, done int64) float64 {
	m.at, m.done = append(m.at, now), append(m.done, done)
	for len(m.at) > 2 && now.Sub(m.at[0]) > window {
		m.at, m.done = m.at[1:], m.done[1:]
	}
	took := now.Sub(m.at[0]).Seconds()
	if took < 0.2 {
		return 0
	}
	return float64(done-m.done[0]) / took
}
