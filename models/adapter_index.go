package models

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

const adapterColumns = `base, name, path, file, base_files, title, size_bytes, digest, rank, alpha, matrices, parameters,
	about, state, error, added_at`

// adaptersOf returns the rows of a model, or of all models.
func (l *Library) adaptersOf(ctx context.Context, base string) ([]Adapter, error) {
	list, err := l.adapterRows(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("list the adapters: %w", err)
	}
	return list, nil
}

func (l *Library) adapterRows(ctx context.Context, base string) ([]Adapter, error) {
	rows, err := l.DB.QueryContext(ctx, `SELECT `+adapterColumns+` FROM adapters WHERE ? IN ('', base) ORDER BY base, name`, base)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []Adapter{}
	for rows.Next() {
		a, err := scanAdapter(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

// adapterBy fails with sql.ErrNoRows.
func (l *Library) adapterBy(ctx context.Context, base, name string) (Adapter, error) {
	return scanAdapter(l.DB.QueryRowContext(ctx, `SELECT `+adapterColumns+` FROM adapters WHERE base = ? AND name = ?`, base, name))
}

func scanAdapter(row interface{ Scan(...any) error }) (Adapter, error) {
	var a Adapter
	var own, baseFiles, about, problem string
	var added int64
	err := row.Scan(&a.Base, &a.Name, &a.Path, &own, &baseFiles, &a.Title, &a.SizeBytes, &a.Digest, &a.Rank, &a.Alpha,
		&a.Matrices, &a.Parameters, &about, &a.State, &problem, &added)
	if err != nil {
		return Adapter{}, err
	}
	if err := json.Unmarshal([]byte(own), &a.file); err != nil {
		return Adapter{}, fmt.Errorf("the file of %s: %q: %w", a.Called(), own, err)
	}
	if err := json.Unmarshal([]byte(baseFiles), &a.baseFiles); err != nil {
		return Adapter{}, fmt.Errorf("the files of %s: %q: %w", a.Base, baseFiles, err)
	}
	a.About, a.AddedAt = json.RawMessage(about), time.UnixMilli(added).UTC()
	if problem != "" {
		a.Err, err = unmarshalError(problem)
	}
	return a, err
}

func (l *Library) insertAdapter(ctx context.Context, a Adapter) error {
	args, err := adapterValues(a)
	if err != nil {
		return err
	}
	_, err = l.DB.ExecContext(ctx, `INSERT INTO adapters (`+adapterColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, args...)
	return err
}

func (l *Library) updateAdapter(ctx context.Context, a Adapter) error {
	args, err := adapterValues(a)
	if err != nil {
		return err
	}
	_, err = l.DB.ExecContext(ctx, `
		UPDATE adapters SET base = ?, name = ?, path = ?, file = ?, base_files = ?, title = ?, size_bytes = ?, digest = ?,
		rank = ?, alpha = ?, matrices = ?, parameters = ?, about = ?, state = ?, error = ?, added_at = ?
		WHERE base = ? AND name = ?`, append(args, a.Base, a.Name)...)
	return err
}

func (l *Library) deleteAdapter(ctx context.Context, a Adapter) error {
	_, err := l.DB.ExecContext(ctx, `DELETE FROM adapters WHERE base = ? AND name = ?`, a.Base, a.Name)
	return err
}

// adapterValues are those of adapterColumns.
func adapterValues(a Adapter) ([]any, error) {
	own, err := json.Marshal(a.file)
	if err != nil {
		return nil, err
	}
	baseFiles, err := json.Marshal(a.baseFiles)
	if err != nil {
		return nil, err
	}
	problem, err := marshalError(a.Err)
	if err != nil {
		return nil, err
	}
	return []any{
		a.Base, a.Name, a.Path, string(own), string(baseFiles), a.Title, a.SizeBytes, a.Digest, a.Rank, a.Alpha, a.Matrices,
		a.Parameters, string(a.About), a.State, problem, a.AddedAt.UnixMilli(),
	}, nil
}
