package p2p

import "github.com/quic-go/quic-go/qlog"

// qlogTracer writes a file for each connection into the folder that the environment's QLOGDIR names.
var qlogTracer = qlog.DefaultConnectionTracer
