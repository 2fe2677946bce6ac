package wire

import (
	"encoding/hex"
	"fmt"

	"github.com/centram/centram"
)

// Slotted is a record that takes the place of an older one: of one author's records in one slot, only the one with the
// highest seq counts.
type Slotted interface {
	Message
	Slot() (slot string, seq uint64)
}

// Expiring is a record that ends by itself.
type Expiring interface {
	Message
	Expiry() int64 // Unix milliseconds; 0 means never
}

func (m *KeyRotate) Slot() (string, uint64) {
	return fmt.Sprint("key/", id(m.Root), "/", m.Scope), m.Seq
}
func (m *PeerRecord) Slot() (string, uint64)   { return "peer", m.Seq }
func (m *HLOffer) Slot() (string, uint64)      { return "offer/" + m.Model.String(), m.Seq }
func (m *PolicyUpdate) Slot() (string, uint64) { return "policy", m.Seq }

func (m *VersionNotice) Slot() (string, uint64)  { return "version", m.Seq }
func (m *GenomeAnnounce) Slot() (string, uint64) { return "genome/" + m.Genome.String(), m.Seq }
func (m *GenomeRetract) Slot() (string, uint64)  { return "genome/" + m.Genome.String(), m.Seq }
func (m *ScanReport) Slot() (string, uint64)     { return "scan/" + m.Genome.String(), m.Seq }
func (m *LineageRuling) Slot() (string, uint64)  { return "ruling/" + m.Challenge.String(), m.Seq }
func (m *Checkpoint) Slot() (string, uint64)     { return "checkpoint/" + id(m.Account), m.Length }

func (m *CreditLine) Slot() (string, uint64) {
	return "credit/" + id(m.Grantor) + "/" + id(m.Grantee), m.Seq
}

func (m *AbuseReport) Slot() (string, uint64) {
	return fmt.Sprint("abuse/", id(m.Subject), "/", uint8(m.Kind)), m.Seq
}

func (m *Attestation) Slot() (string, uint64) {
	return fmt.Sprint("attest/", m.Genome, "/", uint8(m.Kind), "/", m.Task), m.Seq
}

func id(p centram.PeerID) string { return hex.EncodeToString(p[:]) }

func (m *KeyRotate) Expiry() int64        { return m.Expires }
func (m *PeerRecord) Expiry() int64       { return m.Expires }
func (m *PeerSuspect) Expiry() int64      { return m.Expires }
func (m *GenomeAnnounce) Expiry() int64   { return m.Expires }
func (m *LineageChallenge) Expiry() int64 { return m.Expires }
func (m *Attestation) Expiry() int64      { return m.Expires }
func (m *ScanReport) Expiry() int64       { return m.Expires }
func (m *HLOffer) Expiry() int64          { return m.Expires }
func (m *CreditLine) Expiry() int64       { return m.Expires }
func (m *AbuseReport) Expiry() int64      { return m.Expires }
func (m *VersionNotice) Expiry() int64    { return m.Expires }
func (m *RoundOpen) Expiry() int64        { return m.Deadline }
