package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"
)

// processCPU is how long the threads of a process have been on a CPU, or 0 where the
// system does not tell. A shared machine stretches the time a job takes more than the
// work it is.
func processCPU(pid int) time.Duration {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0
	}
	var all time.Duration
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		on, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(on, 10, 64)
		if err == nil {
			all += time.Duration(ns)
		}
	}
	return all
}

// metered adds to a result what it cost in CPU, here and in those processes of the
// server that work for the place alone.
func metered(ctx context.Context, p place, do func() (result, error)) (result, error) {
	before := processCPU(os.Getpid())
	theirs, err := p.serverCPU(ctx)
	if err != nil {
		return result{}, err
	}
	stop, err := profile(p)
	if err != nil {
		return result{}, err
	}
	r, err := do()
	stop()
	if err != nil {
		return r, err
	}
	r.CPU = processCPU(os.Getpid()) - before
	after, err := p.serverCPU(ctx)
	r.ServerCPU = after - theirs
	return r, err
}

// serverCPU is 0 where nobody can tell for whom the server works.
func (p place) serverCPU(ctx context.Context) (time.Duration, error) {
	kind := p.kind()
	if kind.processes == nil {
		return 0, nil
	}
	pids, err := kind.processes(ctx, p)
	var all time.Duration
	for _, pid := range pids {
		all += processCPU(pid)
	}
	return all, err
}

// perJob are the readings of CPU.
func (r result) perJob(jobs int) []reading {
	readings := []reading{
		{"client CPU, µs/job", r.CPU.Seconds() * 1e6 / float64(jobs)},
		{"server CPU, µs/job", r.ServerCPU.Seconds() * 1e6 / float64(jobs)},
	}
	return slices.DeleteFunc(readings, func(r reading) bool { return r.value == 0 })
}

// cpu is what a job cost in all, in microseconds.
func (r result) cpu(jobs int) float64 { return (r.CPU + r.ServerCPU).Seconds() * 1e6 / float64(jobs) }

// profileVar holds the directory for profiles of what children measure.
const profileVar = "SEQUENCER_BENCHMARK_PROFILE"

// sampleAllocations makes the profile of allocations fine enough for one drain. It
// must be called before much is allocated.
func sampleAllocations() {
	if os.Getenv(profileVar) != "" {
		runtime.MemProfileRate = 4096
	}
}

// profile writes a CPU profile, and one of allocations, until stop is called.
func profile(p place) (stop func(), err error) {
	dir := os.Getenv(profileVar)
	if dir == "" {
		return func() {}, nil
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%d", p.Store, os.Getpid()))
	cpu, err := os.Create(name + ".cpu")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		cpu.Close()
		if allocs, err := os.Create(name + ".allocs"); err == nil {
			_ = pprof.Lookup("allocs").WriteTo(allocs, 0)
			allocs.Close()
		}
	}, nil
}
