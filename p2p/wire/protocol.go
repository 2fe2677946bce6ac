package wire

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/centram/centram"
)

var families = []string{
	"Session", "Discovery and pairing", "Catalogue of records", "Transfer of blobs", "Lineage", "Evaluation and attestation",
	"Evolution rounds", "Hyperlink sessions", "Activations", "Ensemble", "Ledger", "Operations",
}

// WriteProtocol prints the table as docs/PROTOCOL.md. Missing are the types that nothing handles yet.
func WriteProtocol(w io.Writer, missing []Type) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, protocolHead, len(Table), ALPN, len(Table)-len(missing))
	family := -1
	for i := range Table {
		r := &Table[i]
		if f := int(r.Type >> 4); f != family {
			family = f
			fmt.Fprintf(b, "\n## %X_ %s\n\n| code | name | what it is | lane | signed by | from | bytes | answered by | fields |\n|---|---|---|---|---|---|---|---|---|\n", f, families[f])
		}
		name := r.Name
		if slices.Contains(missing, r.Type) {
			name += " ○"
		}
		var replies []string
		for _, t := range r.Replies {
			replies = append(replies, t.Name())
		}
		if r.Way == Ask && len(replies) == 0 {
			replies = []string{"STATUS"}
		}
		fmt.Fprintf(b, "| %02X | %s | %s: %s | %s | %s | %s | %d | %s | %s |\n",
			uint8(r.Type), name, r.Way, r.About, r.Lane, r.Signature, r.Rank, r.Max, strings.Join(replies, ", "), fields(r))
	}
	return b.Flush()
}

const protocolHead = `# Protocol

Printed from the table in p2p/wire; a test holds it true. It has %d message types over QUIC (ALPN %s), of which %d are
handled by this version. Those marked ○ have a body, golden bytes and tests, and belong to a feature that is not there yet:
as requests they are answered with STATUS unsupported.

A frame is, in big-endian order:

| at | bytes | what |
|---|---|---|
| 0 | 1 | version: 1 |
| 1 | 1 | code: family << 4, index |
| 2 | 2 | flags: 0 signed, 1 more replies follow, 2 reply, 4 critical; all others are zero |
| 4 | 4 | length of the body |
| 8 | 8 | number of the request; 0 elsewhere |
| 16 | length | body: CBOR in core deterministic encoding (RFC 8949 §4.2.1), keyed by the numbers below; or bytes laid out by hand |
| | 32 | author's Ed25519 key, if signed |
| | 64 | signature, if signed |

A signature is over the name (` + "`centram/1/NAME`" + `, with its length), the network's id and the body; for messages signed by the
peer also over the session's secret, which both ends derive from the TLS handshake, and over the header. *peer* means whoever
sends it, for this connection alone; *author* means whoever made it: a record, which others keep and pass on as it came;
*none* means bulk data, which signed hashes and commitments cover.

*From* says what the sender has to be: anyone; a member, who has said HELLO in the same network; a paired node, or any
member where the owner's policy is open; or another node of the same owner.
`

// fields lists the fields of a row's body.
func fields(r *Row) string {
	var list []string
	for i := range r.message.NumField() {
		f := r.message.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("cbor"), ",")
		text := snake(f.Name) + " " + kindOf(f.Type)
		if key != "" {
			text = key + " " + text
		}
		if strings.Contains(options, "omit") {
			text += "?"
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[centram.PeerID]():
		return "key"
	case reflect.TypeFor[Hash]():
		return "hash"
	case reflect.TypeFor[Record]():
		return "record"
	case reflect.TypeFor[[]byte]():
		return "bytes"
	}
	switch t.Kind() {
	case reflect.Slice:
		return kindOf(t.Elem()) + "[]"
	case reflect.Array:
		return fmt.Sprint(t.Len(), " bytes")
	case reflect.Struct:
		return t.Name()
	case reflect.String:
		return "text"
	}
	return t.Kind().String()
}

// snake writes a field's name as the research and other languages do: PeerID becomes peer_id.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		upper := 'A' <= r && r <= 'Z'
		if upper && i > 0 && !('A' <= name[i-1] && name[i-1] <= 'Z') {
			b.WriteByte('_')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return b.String()
}
