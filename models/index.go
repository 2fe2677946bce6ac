package models

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/store"
)

const columns = `name, path, files, size_bytes, architecture, parameters, layers, embedding, context, quantization,
	chat_template, template, license, kv_bytes, digest, state, error, imported_at`

func allModels(ctx context.Context, db *sql.DB) ([]Model, error) {
	rows, err := db.QueryContext(ctx, `SELECT `+columns+` FROM models ORDER BY name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []Model{}
	for rows.Next() {
		m, err := scanModel(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

// modelBy finds a model by its name or path.
func modelBy(ctx context.Context, db *sql.DB, column, value string) (Model, error) {
	return scanModel(db.QueryRowContext(ctx, `SELECT `+columns+` FROM models WHERE `+column+` = ?`, value))
}

func scanModel(row interface{ Scan(...any) error }) (Model, error) {
	var m Model
	var files, problem string
	var imported int64
	err := row.Scan(&m.Name, &m.Path, &files, &m.SizeBytes, &m.Architecture, &m.Parameters, &m.Layers, &m.Embedding,
		&m.Context, &m.Quantization, &m.ChatTemplate, &m.Template, &m.License, &m.KVBytesPerToken, &m.Digest, &m.State,
		&problem, &imported)
	if err != nil {
		return Model{}, err
	}
	if err := json.Unmarshal([]byte(files), &m.files); err != nil || len(m.files) == 0 {
		return Model{}, fmt.Errorf("the files of %s: %q: %w", m.Name, files, err)
	}
	m.ImportedAt = time.UnixMilli(imported).UTC()
	if problem != "" {
		m.Err, err = unmarshalError(problem)
	}
	return m, err
}

func insertModel(ctx context.Context, db *sql.DB, m Model) error {
	args, err := values(m)
	if err != nil {
		return err
	}
	return store.Tx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM unlisted WHERE path = ?`, m.Path); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO models (`+columns+`)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, args...)
		return err
	})
}

func updateModel(ctx context.Context, db *sql.DB, m Model) error {
	args, err := values(m)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `
		UPDATE models SET name = ?, path = ?, files = ?, size_bytes = ?, architecture = ?, parameters = ?, layers = ?,
		embedding = ?, context = ?, quantization = ?, chat_template = ?, template = ?, license = ?, kv_bytes = ?, digest = ?,
		state = ?, error = ?, imported_at = ? WHERE name = ?`, append(args, m.Name)...)
	return err
}

// values are those of columns.
func values(m Model) ([]any, error) {
	files, err := json.Marshal(m.files)
	if err != nil {
		return nil, err
	}
	problem, err := marshalError(m.Err)
	if err != nil {
		return nil, err
	}
	return []any{
		m.Name, m.Path, string(files), m.SizeBytes, m.Architecture, m.Parameters, m.Layers, m.Embedding, m.Context,
		m.Quantization, m.ChatTemplate, m.Template, m.License, m.KVBytesPerToken, m.Digest, m.State, problem,
		m.ImportedAt.UnixMilli(),
	}, nil
}

func deleteModel(ctx context.Context, db *sql.DB, m Model, unlist bool) error {
	files, err := json.Marshal(m.files)
	if err != nil {
		return err
	}
	return store.Tx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM models WHERE name = ?`, m.Name); err != nil || !unlist {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO unlisted (path, files) VALUES (?, ?)
			ON CONFLICT (path) DO UPDATE SET files = excluded.files`, m.Path, string(files))
		return err
	})
}

// unlisted reports whether these very files were removed from the list.
func unlisted(ctx context.Context, db *sql.DB, files []file) (bool, error) {
	var text string
	err := db.QueryRowContext(ctx, `SELECT files FROM unlisted WHERE path = ?`, files[0].Path).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var removed []file
	err = json.Unmarshal([]byte(text), &removed)
	return slices.Equal(removed, files), err
}

// wasRemoved reports whether a person removed the file of that path from the list, whatever has become of it.
func wasRemoved(ctx context.Context, db *sql.DB, path string) (removed bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM unlisted WHERE path = ?)`, path).Scan(&removed)
	return removed, err
}

// problem is an error as it is stored.
type problem struct {
	Code    centram.Code `json:"code"`
	Message string       `json:"message"`
	Hint    string       `json:"hint,omitempty"`
}

func marshalError(err error) (string, error) {
	if err == nil {
		return "", nil
	}
	text, marshalErr := json.Marshal(problem{centram.CodeOf(err), err.Error(), centram.HintOf(err)})
	return string(text), marshalErr
}

func unmarshalError(text string) (error, error) {
	var p problem
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return nil, err
	}
	return &centram.Error{Code: p.Code, Message: p.Message, Hint: p.Hint}, nil
}
