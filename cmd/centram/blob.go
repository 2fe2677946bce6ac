package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/server"
)

func (a *app) blobCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "blob", Short: "Give files to other nodes, and get files from them", Args: cobra.NoArgs,
		Long: "A blob is a file that is named by what is in it, its SHA-256. What is added on one node, the nodes that are paired with\n" +
			"it can get, from all that have some of it at once.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.blobListCommand(), a.blobAddCommand(), a.blobGetCommand(), a.blobRemoveCommand())
	return cmd
}

func (a *app) blobListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the blobs", Args: cobra.NoArgs}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		var list struct {
			Blobs  []server.Blob `json:"blobs"`
			Bytes  int64         `json:"bytes"`
			Pinned int64         `json:"pinned_bytes"`
			Quota  int64         `json:"quota_bytes"`
		}
		if err := c.do(cmd.Context(), http.MethodGet, "/api/v1/blobs", nil, &list); err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(list)
		}
		if len(list.Blobs) == 0 {
			a.hint("There is no blob yet. Add one with: centram blob add FILE")
			return nil
		}
		return table(a.out, blobRows(list.Blobs, time.Now()))
	}
	return cmd
}

func blobRows(list []server.Blob, now time.Time) [][]string {
	rows := [][]string{{"HASH", "SIZE", "STATE", "USED", "FILE"}}
	for _, b := range list {
		state, file := "complete", "-"
		if !b.Complete {
			state = fmt.Sprintf("%d %%", 100*b.Chunks/max(b.Of, 1))
		}
		if b.Link != "" {
			file = placeText(b, b.Link)
		}
		rows = append(rows, []string{b.Hash, bytesText(b.Size), state, span(now.Sub(b.UsedAt)) + " ago", file})
	}
	return rows
}

// placeText says where a blob is. What is but a range of a file is no path that could be mistaken for all of it.
func placeText(b server.Blob, file string) string {
	if b.Offset == 0 {
		return file
	}
	return fmt.Sprintf("%s, bytes %d to %d", file, b.Offset, b.Offset+b.Size-1)
}

func (a *app) blobAddCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "add FILE", Short: "Let other nodes get a file, which stays where it is", Args: cobra.ExactArgs(1)}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		var b server.Blob
		if err := c.do(cmd.Context(), http.MethodPost, "/api/v1/blobs", map[string]string{"path": path}, &b); err != nil {
			return err
		}
		if *asJSON {
			return a.printJSON(b)
		}
		fmt.Fprintln(a.out, b.Hash)
		a.hint("%s. Nodes that are connected get it with: centram blob get %s", bytesText(b.Size), b.Hash)
		return nil
	}
	return cmd
}

func (a *app) blobGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get HASH", Short: "Fetch a blob from the nodes that have it, and say which file it is in", Args: cobra.ExactArgs(1),
		Long: "Fetch a blob from the nodes that have it. What has come stays if it is stopped, and the next time only the rest is\n" +
			"fetched.",
	}
	output := cmd.Flags().StringP("output", "o", "", "copy it to a `file`")
	wait := cmd.Flags().Duration("wait", 0, "how long to wait for a node that has it")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		b, err := a.fetchBlob(cmd.Context(), c, args[0], *wait)
		if err != nil {
			return err
		}
		if *output != "" {
			if err := copyBlob(b, *output); err != nil {
				return err
			}
			b.Path, b.Offset = *output, 0
		}
		if *asJSON {
			return a.printJSON(b)
		}
		fmt.Fprintln(a.out, placeText(b.Blob, b.Path))
		if b.Offset > 0 {
			a.hint("It is a range of that file. Copy it out with: centram blob get %s -o FILE", args[0])
		}
		return nil
	}
	return cmd
}

// fetchBlob has the daemon fetch a blob, and shows how far it is.
func (a *app) fetchBlob(ctx context.Context, c *client, hash string, wait time.Duration) (b server.FetchedBlob, err error) {
	bar := a.newProgress("Fetching")
	defer bar.clear()
	body := map[string]int{"wait_s": int(wait / time.Second)}
	err = c.follow(ctx, http.MethodPost, blobPath(hash)+"/fetch", body, func(event string, data []byte) (bool, error) {
		switch event {
		case "progress":
			p, err := decode[struct{ Have, Of int }](data)
			if err == nil && p.Of > 0 {
				bar.show(float64(p.Have) / float64(p.Of))
			}
			return false, err
		case "failed":
			p, err := decode[server.Refusal](data)
			if err != nil {
				return false, err
			}
			return true, &centram.Error{Code: p.Code, Message: p.Message, Hint: p.Hint}
		case "done":
			b, err = decode[server.FetchedBlob](data)
			return true, err
		}
		return false, nil
	})
	return b, err
}

func decode[T any](data []byte) (v T, err error) {
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return v, nil
}

// copyBlob copies a blob whole or not at all, and checks it once more.
func copyBlob(b server.FetchedBlob, to string) error {
	from, err := os.Open(b.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	sum := sha256.New()
	err = atomicfile.WriteFunc(to, 0o644, func(out *os.File) error {
		if _, err := io.Copy(io.MultiWriter(out, sum), io.NewSectionReader(from, b.Offset, b.Size)); err != nil { // a range of the file
			return err
		}
		if hex.EncodeToString(sum.Sum(nil)) != b.Hash {
			return centram.Errorf(centram.Unavailable, "%s is damaged.", b.Path).WithHint("Remove it and fetch it again: centram blob rm %s", b.Hash)
		}
		return nil
	})
	if _, ours := errors.AsType[*centram.Error](err); err == nil || ours {
		return err
	}
	return centram.Errorf(centram.Invalid, "the blob cannot be copied to %s: %w", to, err).WithHint("Choose another file: centram blob get %s -o FILE", b.Hash)
}

func (a *app) blobRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm HASH", Short: "Remove a blob; a file that was added stays where it is", Args: cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.daemon(cmd.Context())
		if err != nil {
			return err
		}
		if err := c.do(cmd.Context(), http.MethodDelete, blobPath(args[0]), nil, nil); err != nil {
			return err
		}
		a.hint("The blob is removed.")
		return nil
	}
	return cmd
}

func blobPath(hash string) string { return "/api/v1/blobs/" + url.PathEscape(hash) }
