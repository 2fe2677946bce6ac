//go:build !linux

package p2p

import "net"

func coalesce(socket net.PacketConn) net.PacketConn { return socket }
