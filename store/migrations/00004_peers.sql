-- Nodes that this one has met or was told of. What a row says of addresses and behaviour is experience, and goes stale;
-- trust is the owner's word. Times are milliseconds since 1970, and 0 if it never was.
--
-- id            Ed25519 public key
-- trust         0 stranger, 1 paired, 2 of the same owner
-- addresses     JSON: [{"address", "source", "seen"}], the best first
-- last_seen     in a session
-- penalty       points for misbehaviour, as of penalty_at; they are forgotten by halves
-- bans          how often it was banned: every further ban is longer
--
-- `static_peers` holds what the owner typed, host:port. These are dialled for ever; peer is who answered there.

-- +goose Up
CREATE TABLE peers (
	id           BLOB PRIMARY KEY CHECK (length(id) = 32),
	name         TEXT NOT NULL,
	trust        INTEGER NOT NULL CHECK (trust BETWEEN 0 AND 2),
	addresses    TEXT NOT NULL CHECK (json_valid(addresses)),
	first_seen   INTEGER NOT NULL,
	last_seen    INTEGER NOT NULL,
	penalty      REAL NOT NULL,
	penalty_at   INTEGER NOT NULL,
	bans         INTEGER NOT NULL,
	banned_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE static_peers (
	address TEXT PRIMARY KEY,
	peer    BLOB CHECK (peer IS NULL OR length(peer) = 32)
) STRICT, WITHOUT ROWID;
