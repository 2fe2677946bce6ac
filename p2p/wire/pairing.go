package wire

// PairRequest proposes that both nodes trust each other. Without a code, people compare the words on both screens. With a
// code, Share is the asker's half of a key agreement that a wrong code makes fail (CPace, draft-irtf-cfrg-cpace), so that
// nobody in between learns enough to try codes by himself.
type PairRequest struct {
	Name  string `cbor:"1,keyasint"` // of the asker, for the person who consents
	Share []byte `cbor:"2,keyasint,omitempty"`
	Proof []byte `cbor:"3,keyasint,omitempty"` // second request: the asker's proof that it knows the code
}

func (m *PairRequest) Validate() error {
	var c check
	c.text("name", m.Name, 64)
	c.that(len(m.Share) == 0 || len(m.Share) == 32, "share: %d bytes", len(m.Share))
	c.that(len(m.Proof) == 0 || len(m.Proof) == 32, "proof: %d bytes", len(m.Proof))
	c.that(len(m.Share) == 0 || len(m.Proof) == 0, "share and proof at once")
	return c.err
}

// PairConfirm answers PairRequest. A refusal is a STATUS.
type PairConfirm struct {
	Name  string `cbor:"1,keyasint"`
	Share []byte `cbor:"2,keyasint,omitempty"`
	Proof []byte `cbor:"3,keyasint,omitempty"`
	Done  bool   `cbor:"4,keyasint"` // the sender trusts the receiver from now on
}

func (m *PairConfirm) Validate() error {
	var c check
	c.text("name", m.Name, 64)
	c.that(len(m.Share) == 0 || len(m.Share) == 32, "share: %d bytes", len(m.Share))
	c.that(len(m.Proof) == 0 || len(m.Proof) == 32, "proof: %d bytes", len(m.Proof))
	c.that(m.Done || len(m.Share) == 32, "neither done nor a share")
	return c.err
}

// Invite makes a node a member of a private network. Its author is the network's key, whose id is the network's.
type Invite struct {
	Network string `cbor:"1,keyasint"` // name, for people
	Member  []byte `cbor:"2,keyasint"` // PeerID of the member
	Seq     uint64 `cbor:"3,keyasint"`
	Expires int64  `cbor:"4,keyasint"` // Unix milliseconds
}

func (m *Invite) Validate() error {
	var c check
	c.text("network", m.Network, 64)
	c.that(len(m.Member) == 32, "member: %d bytes", len(m.Member))
	c.that(m.Expires > 0, "expires: %d", m.Expires)
	return c.err
}
