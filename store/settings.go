package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// Settings keeps named documents, such as what a person chose on the settings page.
type Settings struct {
	DB *sql.DB
}

// Load reads the document called name into v. It leaves v alone if there is none.
func (s Settings) Load(ctx context.Context, name string, v any) error {
	var text string
	err := s.DB.QueryRowContext(ctx, `SELECT value FROM settings WHERE name = ?`, name).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load the settings %s: %w", name, err)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("load the settings %s: %w", name, err)
	}
	return nil
}

// Save replaces the document called name.
func (s Settings) Save(ctx context.Context, name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("save the settings %s: %w", name, err)
	}
	_, err = s.DB.ExecContext(ctx, `
		INSERT INTO settings (name, value) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, string(text))
	if err != nil {
		return fmt.Errorf("save the settings %s: %w", name, err)
	}
	return nil
}
