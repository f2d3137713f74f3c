// Package dashboard shows a ledger in a browser, and lets people act on it who may: one
// [net/http.Handler], mounted under any path of an application's own server.
//
// It is closed until somebody opens it. Without [Options.Credentials] and
// [Options.Check] it answers its own machine alone; without [Options.Allow] it changes
// nothing. What people do goes through the methods that commands use, so that the audit
// log has who did what, and why.
//
// Pages are made on the server and work without a script. A small one of our own keeps
// what is on the screen as the ledger is, by server-sent events: the page is read anew
// once every [Options.Refresh], by all browsers that look at it together, and what
// changed of it is sent. Nothing is loaded from anywhere else.
//
// No page reads more than it shows. Throughput, run times and waits come from the
// counters that finishing an execution keeps; lists are pages; what has no counter is
// counted so far and no further ("500+"). An answer that took long is kept the longer.
//
//	d, err := dashboard.New(seq, dashboard.Options{
//		Prefix: "/admin/sequencer",
//		Check:  func(r *http.Request) (dashboard.Person, bool) { … },
//		Allow:  []dashboard.Action{dashboard.Retry, dashboard.Pause, dashboard.Resume},
//	})
//	mux.Handle("/admin/sequencer/", d)
package dashboard
