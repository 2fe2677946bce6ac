package chats

import (
	"context"
	"database/sql"

)

// Query asks for a part of the list of conversations.
type Query struct {
	Text   string // words to be found in the title or in one message; empty means all chats
	Limit  int    // at most so many. Zero means 50
	Before string // the id of the last chat of the part before; empty means from the newest
}

// List returns conversations, those first to which something was added last, and whether there are more. It fails with
// centram.NotFound if the chat Before is gone.
func (s *Store) List(ctx context.Context, q Query) (found []Summary, more bool, err error) {
	if q.Limit <= 0 {
		q.Limit = 50
	}
	words := match(q.Text)
	if words == "" && q.Text != "" {
		return []Summary{}, false, nil
	}
	err = s.tx(ctx, "list the chats", func(tx *sql.Tx) error {
		after := Chat{Summary: Summary{UpdatedAt: fromMillis(1 << 60)}}
		if q.Before != "" {
			if after, err = findChat(ctx, tx, q.Before); err != nil {
				return err
			}
		}
		found, err = findSummaries(ctx, tx, words, after, q.Limit+1)
		if err != nil {
			return err
		}
		if more = len(found) > q.Limit; more {
			found = found[:q.Limit]
		}
		if words == "" {
			return nil
		}
		return addSnippets(ctx, tx, words, found)
	})
	return found, more, err
}

func findSummaries(ctx context.Context, tx *sql.Tx, words string, after Chat, limit int) ([]Summary, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT id, title, model, created_at, updated_at FROM chats
		WHERE (updated_at, id) < (?1, ?2)
		AND (?3 = '' OR id IN (SELECT d.chat FROM search JOIN documents d ON d.id = search.docid WHERE search MATCH ?3))
		ORDER BY updated_at DESC, id DESC LIMIT ?4`, after.UpdatedAt.UnixMilli(), after.ID, words, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := []Summary{}
	for rows.Next() {
		var c Summary
		var created, updated int64
		if err := rows.Scan(&c.ID, &c.Title, &c.Model, &created, &updated); err != nil {
			return nil, err
		}
		c.CreatedAt, c.UpdatedAt = fromMillis(created), fromMillis(updated)
		found = append(found, c)
	}
	return found, rows.Err()
}

// addSnippets shows of each chat the newest hit in a message, or else the one in the title.
func addSnippets(ctx context.Context, tx *sql.Tx, words string, found []Summary) error {
	for i := range found {
		doc, err := bestDocument(ctx, tx, words, found[i].ID)
		if err != nil {
			return err
		}
		// A range and not an equality, because FTS4 then reads this document only.
		err = tx.QueryRowContext(ctx, `
			SELECT snippet(search, ?, ?, '…', 0, 24) FROM search WHERE search MATCH ? AND docid BETWEEN ? AND ?`,
			string(hitBegin), string(hitEnd), words, doc, doc).Scan(&found[i].Snippet)
		if err != nil {
			return err
		}
		found[i].Snippet = unsegment(found[i].Snippet)
	}
	return nil
}

func bestDocument(ctx context.Context, tx *sql.Tx, words, chat string) (doc int64, err error) {
	err = tx.QueryRowContext(ctx, `
		SELECT d.id FROM documents d WHERE d.chat = ? AND d.id IN (SELECT docid FROM search WHERE search MATCH ?)
		ORDER BY d.message IS NULL, d.id DESC LIMIT 1`, chat, words).Scan(&doc)
	return doc, err
}

// indexTitle makes a chat findable by its title, and no longer by the one before.
func indexTitle(ctx context.Context, tx *sql.Tx, chat, title string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM documents WHERE chat = ? AND message IS NULL`, chat); err != nil {
		return err
	}
	return index(ctx, tx, chat, "", title)
}

// indexMessage makes a chat findable by the text of a message.
func indexMessage(ctx context.Context, tx *sql.Tx, chat, message, text string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM documents WHERE message = ?`, message); err != nil {
		return err
	}
	return index(ctx, tx, chat, message, text)
}

func index(ctx context.Context, tx *sql.Tx, chat, message, text string) error {
	if text == "" {
		return nil
	}
	result, err := tx.ExecContext(ctx, `INSERT INTO documents (chat, message) VALUES (?, NULLIF(?, ''))`, chat, message)
	if err != nil {
		return err
	}
	id, err := result.LastInsertId()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO search (docid, body) VALUES (?, ?)`, id, segment(text))
	return err
}
