package wire

import (
	"fmt"
	"reflect"
)

// Row is one message type: all that is known of it besides its fields.
type Row struct {
	Type      Type
	Name      string // signed with the message, so it never changes
	Way       Way
	Lane      Lane
	Signature Signature
	Rank      Rank
	Max       int    // bytes of the body
	Replies   []Type // what may answer a request besides STATUS
	About     string // one line for docs/PROTOCOL.md

	message reflect.Type
}

// New returns an empty message of the row's type.
func (r *Row) New() Message { return reflect.New(r.message).Interface().(Message) }

// Kept says whether records of this type are kept, and passed on to whoever lacks them. The others are for the moment.
func (r *Row) Kept() bool {
	return r.Way == Spread && r.Lane == Control && r.Type != typeSuspect && r.Type != typeInvite
}

const typeSuspect, typeInvite Type = 0x16, 0x19

// Way says what a message is to its receiver.
type Way string

const (
	Ask    Way = "request" // wants one reply or more
	Answer Way = "reply"
	Tell   Way = "notice" // wants no reply
	Spread Way = "record" // is passed on
)

// Lane is what carries a message. A type travels in one lane only.
type Lane string

const (
	Control   Lane = "control"   // the one long stream of a connection: first
	Hyperlink Lane = "hyperlink" // a stream for each chain and direction: second
	Request   Lane = "request"   // a stream for each request
	Bulk      Lane = "bulk"      // a stream for each transfer: last
	Datagram  Lane = "datagram"  // outside of any connection
)

// Signature says whose signature a message has.
type Signature string

const (
	ByPeer   Signature = "peer"   // whoever sends it, for this connection only
	ByAuthor Signature = "author" // whoever made it: a record
	ByNobody Signature = "none"   // bulk data that signed hashes or commitments cover
)

// Rank is what the sender has to be.
type Rank string

const (
	Anyone Rank = "anyone" // whoever reaches the socket
	Member Rank = "member" // whoever has said HELLO in the same network
	Paired Rank = "paired" // whom the owner paired with, unless the owner's policy is open: what costs or reveals
	Owner  Rank = "owner"  // another node of the same owner
)

func row[T any](t Type, name string, way Way, lane Lane, sig Signature, rank Rank, limit int, about string, replies ...Type) Row {
	return Row{
		Type: t, Name: name, Way: way, Lane: lane, Signature: sig, Rank: rank, Max: limit,
		Replies: replies, About: about, message: reflect.TypeFor[T](),
	}
}

// RowOf returns the row of a type, or nil.
func RowOf(t Type) *Row { return byType[t] }

// RowFor returns the row of a message. It panics for what is not a message of the table: that is a mistake in a program.
func RowFor(m Message) *Row {
	r := byMessage[reflect.TypeOf(m).Elem()]
	if r == nil {
		panic(fmt.Sprintf("wire: %T is in no row of the table", m))
	}
	return r
}

// RowAs returns the row of the message type T, such as wire.RowAs[wire.Ping]().
func RowAs[T any]() *Row { return byMessage[reflect.TypeFor[T]()] }

var byType, byMessage = index()

func index() (t [256]*Row, m map[reflect.Type]*Row) {
	m = map[reflect.Type]*Row{}
	for i := range Table {
		r := &Table[i]
		if t[r.Type] != nil || m[r.message] != nil {
			panic(fmt.Sprintf("wire: %s is twice in the table", r.Name))
		}
		t[r.Type], m[r.message] = r, r
	}
	return t, m
}
