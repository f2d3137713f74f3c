// Package seal encrypts what operations marked [sequencer.Encrypted] keep in the
// ledger. A [Ring] is a [sequencer.Sealer] over named keys: one of them seals, all
// of them open. The cryptography is Tink's: XChaCha20-Poly1305, whose random nonces
// never run out, and HMAC-SHA-256 for the hashes that stand for unique keys and
// overlap keys.
//
//	file, err := seal.NewFile("2026-01")    // once; or: sequencer keys new keys.json 2026-01
//	err = file.Write("keys.json")           // it is secret as a whole
//	ring, err := seal.Load("keys.json")     // or seal.FromEnv, seal.Parse
//	seq, err := sequencer.New(store, registry, sequencer.Config{Sealer: ring})
//
// # What is sealed, and what is not
//
// Sealed are input, checkpoints, results and the messages of errors and panics; each
// is bound to its operation's name, its execution and its field, so that a ciphertext
// put elsewhere does not open. In clear stay the name, queue, tags, times, counters,
// policy, types of errors and stack traces, and the reasons of skips and releases:
// put no secrets there, nor into the keys of limiters.
//
// # Rotation without downtime
//
// The command has each step as well: keys add, keys use, rekey, keys drop.
//
//  1. [File.Add] a key and give the file to every process. They open what it seals,
//     and go on sealing with the present one.
//  2. [File.Use] it, and give the file to every process again.
//  3. [sequencer.Sequencer.Rekey], or the command rekey: what waits, and what may be
//     retried or rolled back, is sealed anew while workers work.
//  4. Once [sequencer.Sequencer.KeyUsage] (rekey --dry-run) counts nothing under the
//     old key, [File.Drop] it. Messages of older errors go with it.
//
// What is sealed with a key that a process lacks fails there at once, with an error
// that names the key, and runs again when it is retried with the key back. The hash
// key is never changed: unique keys would no longer meet.
//
// # Key services
//
// A [Key] holds any of Tink's AEADs. For keys that never leave a key service, make
// one with aead.NewKMSEnvelopeAEADWithContext and give it to [New]: each value then
// has a key of its own, which the service wraps.
package seal
