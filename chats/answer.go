package chats

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/centram/centram"
)

// SetText replaces the text of an answer that is being generated.
func (s *Store) SetText(ctx context.Context, id, text string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE messages SET content = ? WHERE id = ? AND state = 'generating'`, clean(text), id)
	if err != nil {
		return fmt.Errorf("save the text of an answer: %w", err)
	}
	return nil
}

// Finish ends an answer that is being generated. It fails with centram.NotFound if there is none, as when its chat was
// deleted meanwhile.
func (s *Store) Finish(ctx context.Context, chat, id string, o Outcome) (Message, error) {
	var m Message
	err := s.tx(ctx, "finish the answer", func(tx *sql.Tx) error {
		var err error
		if m, err = findMessage(ctx, tx, chat, id); err != nil {
			return err
		}
		if m.State != Generating {
			return centram.Errorf(centram.NotFound, "Message %q is not being written.", id)
		}
		m.Content, m.State, m.Error, m.Stats = clean(o.Content), o.State, o.Problem, o.Stats
		return s.finish(ctx, tx, chat, m)
	})
	return m, err
}

// Interrupt ends every answer that a daemon left behind when it died, with the text that was saved, and returns how many
// there were. It is for the start, before anything is generated.
func (s *Store) Interrupt(ctx context.Context) (int, error) {
	n := 0
	err := s.tx(ctx, "end what was left behind", func(tx *sql.Tx) error {
		left, err := findGenerating(ctx, tx)
		if err != nil {
			return err
		}
		n = len(left)
		for id, chat := range left {
			m, err := findMessage(ctx, tx, chat, id)
			if err != nil {
				return err
			}
			m.State = Interrupted
			if err := s.finish(ctx, tx, chat, m); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// findGenerating returns the chat of each message that is being generated.
func findGenerating(ctx context.Context, tx *sql.Tx) (map[string]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, chat FROM messages WHERE state = 'generating'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	chats := map[string]string{}
	for rows.Next() {
		var id, chat string
		if err := rows.Scan(&id, &chat); err != nil {
			return nil, err
		}
		chats[id] = chat
	}
	return chats, rows.Err()
}

func (s *Store) finish(ctx context.Context, tx *sql.Tx, chat string, m Message) error {
	if err := updateMessage(ctx, tx, m); err != nil {
		return err
	}
	if err := indexMessage(ctx, tx, chat, m.ID, m.Content); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE chats SET updated_at = ? WHERE id = ?`, s.now().UnixMilli(), chat)
	return err
}

func updateMessage(ctx context.Context, tx *sql.Tx, m Message) error {
	problem, err := optionalJSON(m.Error)
	if err != nil {
		return err
	}
	stats, err := optionalJSON(m.Stats)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE messages SET content = ?, state = ?, model = ?, error = ?, stats = ? WHERE id = ?`,
		m.Content, m.State, m.Model, problem, stats, m.ID)
	return err
}

// optionalJSON is empty for nil.
func optionalJSON[T any](v *T) (string, error) {
	if v == nil {
		return "", nil
	}
	return toJSON(v)
}
