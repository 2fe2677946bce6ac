package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// delay is a network between two machines. Its zero value is the relay alone.
type delay struct {
	RTT    time.Duration
	Jitter time.Duration // mean of what is added each way, exponentially distributed
	Loss   float64       // percent of the datagrams, each way
	Seed   uint64
}

// relay passes datagrams on between one client and a server, late. Like a queue, it keeps their order.
type relay struct {
	front, back *net.UDPConn // the client's side and the server's
	server      *net.UDPAddr
	wg          sync.WaitGroup

	mu     sync.Mutex // guards the following
	client *net.UDPAddr
}

// datagram is under way.
type datagram struct {
	due  time.Time
	data []byte
}

const (
	// A timer of Go's may be a millisecond late and one of the kernel's fifty microseconds, so the last stretch is not slept.
	wakeEarly   = 100 * time.Microsecond
	relayBuffer = 4 << 20
	datagrams   = 1 << 14 // under way at once; what is more is lost, as with any queue
)

// newRelay listens on the loopback interface and passes on to server.
func newRelay(server string, d delay) (*relay, error) {
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		return nil, err
	}
	loopback := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	front, err := net.ListenUDP("udp", loopback)
	if err != nil {
		return nil, err
	}
	back, err := net.ListenUDP("udp", loopback)
	if err != nil {
		return nil, errors.Join(err, front.Close())
	}
	r := &relay{front: front, back: back, server: to}
	for _, c := range []*net.UDPConn{front, back} {
		_ = c.SetReadBuffer(relayBuffer) // as much as the system allows
		_ = c.SetWriteBuffer(relayBuffer)
	}
	r.pass(front, back, d, 1, func(from *net.UDPAddr) { r.setClient(from) }, func() *net.UDPAddr { return r.server })
	r.pass(back, front, d, 2, func(*net.UDPAddr) {}, r.clientAddr)
	return r, nil
}

func (r *relay) address() string { return r.front.LocalAddr().String() }

// close returns when nothing is passed on any more.
func (r *relay) close() {
	r.front.Close()
	r.back.Close()
	r.wg.Wait()
}

func (r *relay) setClient(a *net.UDPAddr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client = a
}

func (r *relay) clientAddr() *net.UDPAddr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.client
}

// pass passes on what comes from one side to the other: one goroutine reads, one writes when it is time.
func (r *relay) pass(from, to *net.UDPConn, d delay, way uint64, heard func(*net.UDPAddr), addressee func() *net.UDPAddr) {
	queue := make(chan datagram, datagrams)
	r.wg.Go(func() {
		defer close(queue)
		random := rand.New(rand.NewPCG(d.Seed, way))
		buf := make([]byte, 1<<16)
		var last time.Time
		for {
			n, sender, err := from.ReadFromUDP(buf)
			if err != nil {
				return
			}
			due := time.Now().Add(d.RTT/2 + time.Duration(random.ExpFloat64()*float64(d.Jitter)))
			heard(sender)
			if random.Float64()*100 < d.Loss {
				continue
			}
			if due.Before(last) {
				due = last
			}
			last = due
			select {
			case queue <- datagram{due, append([]byte(nil), buf[:n]...)}:
			default:
			}
		}
	})
	r.wg.Go(func() {
		for g := range queue {
			waitUntil(g.due)
			if a := addressee(); a != nil {
				_, _ = to.WriteToUDP(g.data, a) // a datagram that cannot be sent is lost
			}
		}
	})
}

// waitUntil sleeps by the kernel's clock and then looks at its own.
func waitUntil(due time.Time) {
	for {
		left := time.Until(due)
		if left <= 0 {
			return
		}
		if left > wakeEarly {
			t := unix.NsecToTimeval((left - wakeEarly).Nanoseconds())
			_, _ = unix.Select(0, nil, nil, nil, &t)
		}
	}
}
