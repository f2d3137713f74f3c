package main

import (
	"bytes"
	"fmt"
	"time"
)

// payloadSize is how many bytes a job carries.
const payloadSize = 100

// payloadNumber is how many bytes of it are its number.
const payloadNumber = len("job 00000000")

// warmUp is the number in the payload of a job that is not measured.
const warmUp = -1

// payload is a job's input: its number, the time of the call that inserts it, and
// padding, as text, so that contenders that write JSON need not escape it.
func payload(number int) []byte {
	text := fmt.Appendf(make([]byte, 0, payloadSize), "job %08d %020d ", number, time.Now().UnixNano())
	return append(text, bytes.Repeat([]byte("x"), payloadSize-len(text))...)
}

// readPayload finds the two in what a handler was given.
func readPayload(input []byte) (number int, called int64, err error) {
	begin := bytes.Index(input, []byte("job "))
	if begin < 0 {
		return 0, 0, fmt.Errorf("no payload of ours: %q", input)
	}
	_, err = fmt.Sscanf(string(input[begin:]), "job %d %d ", &number, &called)
	return number, called, err
}

func payloads(jobs int) [][]byte {
	all := make([][]byte, jobs)
	for i := range all {
		all[i] = payload(i)
	}
	return all
}
