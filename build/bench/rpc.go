package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// rpc measures an answer over two stages beside llama.cpp's own way to use another machine: the same layers there, the same
// threads, both processes on this machine.
func (c config) rpc(model string) ([]*figure, error) {
	f := &figure{Name: "2 stages RPC " + modelName(model), Reference: "llama.cpp RPC", Floor: 1}
	if !c.wants(f) {
		return nil, nil
	}
	q := question{Chats: 1, Prompt: 1, Gen: c.gen}
	r, err := c.rig(rigSetup{model: model, lanes: 1, context: q.Prompt + q.Gen + 1})
	if err != nil {
		return nil, err
	}
	defer r.stop()
	server, err := startRPC(filepath.Join(c.rpcTools, "ggml-rpc-server"))
	if err != nil {
		return nil, err
	}
	defer server.stop()
	for round := range c.runs + 1 {
		q.Salt = round
		var ours answer
		var theirs float64
		err := inTurn(round,
			func() (err error) { ours, err = r.ask(split, q); return err },
			func() (err error) { theirs, err = c.overRPC(model, server.address, r.layers-r.cut); return err })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if round == 0 { // what is computed is what one machine computes
			alone, err := r.ask(solo, q)
			if err := errors.Join(err, same(ours, alone)); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name, err)
			}
			continue
		}
		f.pairs = append(f.pairs, pair{writing(q, ours), theirs})
	}
	f.print()
	return []*figure{f}, nil
}

// overRPC is what llama-bench reaches with so many layers, and the output, at the server.
func (c config) overRPC(model, address string, layers int) (float64, error) {
	time.Sleep(settle)
	var out []struct {
		Layers  int       `json:"n_gpu_layers"`
		Samples []float64 `json:"samples_ts"`
	}
	err := runJSON(&out, filepath.Join(c.rpcTools, "llama-bench"), "--rpc", address, "-m", model, "-ngl", fmt.Sprint(layers+1),
		"-p", "0", "-n", fmt.Sprint(c.gen), "-t", "1", "-r", "1", "-o", "json")
	if err != nil {
		return 0, err
	}
	if len(out) != 1 || len(out[0].Samples) != 1 || out[0].Layers != layers+1 {
		return 0, fmt.Errorf("llama-bench printed %v, want one sample with %d layers at the server", out, layers+1)
	}
	return out[0].Samples[0], nil
}

// rpcServer is llama.cpp's program that computes for others.
type rpcServer struct {
	address string
	cmd     *exec.Cmd
}

func startRPC(program string) (*rpcServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &rpcServer{address: l.Addr().String()}
	l.Close()
	_, port, _ := net.SplitHostPort(s.address)
	var log bytes.Buffer
	s.cmd = exec.Command(program, "-H", "127.0.0.1", "-p", port, "-t", "1")
	s.cmd.Stdout, s.cmd.Stderr = &log, &log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if conn, err := net.Dial("tcp", s.address); err == nil {
			conn.Close()
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("%s was not ready within ten seconds\n%s", program, &log)
}

func (s *rpcServer) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	defer time.AfterFunc(3*time.Second, func() { _ = s.cmd.Process.Kill() }).Stop()
	_ = s.cmd.Wait()
}
