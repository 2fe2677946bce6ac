//go:build !linux

package main

func mountable() bool { return false }
