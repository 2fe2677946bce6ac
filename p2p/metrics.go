package p2p

import (
	"github.com/centram/centram/p2p/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the node's counters.
type metrics struct {
	sessions prometheus.Gauge
	messages *prometheus.CounterVec // direction, type
	bytes    *prometheus.CounterVec // direction, lane
	refusals *prometheus.CounterVec // status
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "centram_peers", Help: "Peers that are connected.",
		}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "centram_peer_messages_total", Help: "Messages to and from peers.",
		}, []string{"direction", "type"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "centram_peer_bytes_total", Help: "Bytes of messages to and from peers.",
		}, []string{"direction", "lane"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "centram_peer_refusals_total", Help: "Messages of peers that were refused.",
		}, []string{"status"}),
	}
	if r != nil {
		r.MustRegister(m.sessions, m.messages, m.bytes, m.refusals)
	}
	return m
}

func (m *metrics) sent(row *wire.Row, size int) {
	m.messages.WithLabelValues("sent", row.Name).Inc()
	m.bytes.WithLabelValues("sent", string(row.Lane)).Add(float64(size))
}

func (m *metrics) received(row *wire.Row, size int) {
	m.messages.WithLabelValues("received", row.Name).Inc()
	m.bytes.WithLabelValues("received", string(row.Lane)).Add(float64(size))
}

func (m *metrics) refused(s wire.StatusCode) { m.refusals.WithLabelValues(s.String()).Inc() }
