package chats

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
)

// ids makes UUIDs of version 7: 48 bits of milliseconds, then random bits.
type ids struct {
	now func() time.Time

	mu   sync.Mutex // guards rand
	rand io.Reader
}

func (g *ids) next() (string, error) {
	g.mu.Lock()
	id, err := uuid.NewRandomFromReader(g.rand)
	g.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(g.now().UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	return id.String(), nil
}
