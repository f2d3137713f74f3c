// Package backfill changes the rows of a large table in small steps: batches in key
// order, each in a transaction of its own together with the cursor behind it, sized so
// that each takes about as long as it should.
//
//	backfill.Register(reg, "20240115120000_fill_slugs", backfill.Backfill[int64, Post]{
//		Next:  nextPosts,  // SELECT … WHERE id > after ORDER BY id LIMIT limit
//		Key:   func(p Post) int64 { return p.ID },
//		Apply: fillSlugs,  // UPDATE …
//		Count: countPosts, // SELECT count(*) … WHERE id > after
//	})
//
// # What it promises
//
// Where Next and Apply use the ledger's own database through [sequencer.Tx], the rows
// of a batch and the cursor commit together: whenever the process dies, every row is
// changed once, and whoever goes on does so behind the last batch that was committed.
// With any other database the cursor is saved when Apply has returned: a batch that was
// cut off is applied again, so Apply must bear that.
//
// The cursor outlives the attempt, the worker and the deploy run: see
// [sequencer.Resume]. A worker that dies costs a backfill nothing as long as the next
// one gets further.
//
// A pause of the operation or its queue holds it up between two batches (see
// [sequencer.Yield]), and Throttle does so whenever the database needs a rest. How far
// it has come, and how long it will take, the command shows while it runs, in status
// and in why; `plan --evaluate` shows how much there is to do.
package backfill
