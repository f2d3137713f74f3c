package sqlite_test

import (
	"database/sql"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/gosequencer/sequencer/storage"
)

func BenchmarkFloor(b *testing.B) {
	db, _ := sql.Open("sqlite", "file:"+b.TempDir()+"/f.db?_journal_mode=WAL&_synchronous=NORMAL&_txlock=immediate")
	db.SetMaxOpenConns(1)
	_, err := db.Exec(`create table t(id blob primary key, queue text, kind text, state text, priority int, attempt int, run_at int, lease int, payload blob) without rowid;
create index c on t(queue,priority,run_at,id) where state='p'; create index l on t(lease) where state='r';`)
	if err != nil {
		b.Fatal(err)
	}
	var took, cpus time.Duration
	for b.Loop() {
		tx, _ := db.Begin()
		for range 20000 {
			id := storage.NewID()
			if _, err := tx.Exec(`insert into t values(?,'default','k','p',2,0,1,null,?)`, id[:], make([]byte, 100)); err != nil {
				b.Fatal(err)
			}
		}
		tx.Commit()
		start := time.Now()
		c0 := cpu()
		claim, _ := db.Prepare(`update t set state='r', attempt=attempt+1, lease=5 where id in (select id from t where queue='default' and state='p' and priority=2 and run_at<=7 order by run_at,id limit 500) returning id,kind,payload,attempt`)
		fin, _ := db.Prepare(`update t set state='c', lease=null where id in (select unhex(value) from json_each(?))`)
		for {
			tx, _ := db.Begin()
			rows, err := tx.Stmt(claim).Query()
			if err != nil {
				b.Fatal(err)
			}
			var ids []string
			for rows.Next() {
				var id, p []byte
				var k string
				var a int
				rows.Scan(&id, &k, &p, &a)
				ids = append(ids, hex.EncodeToString(id))
			}
			rows.Close()
			tx.Commit()
			if len(ids) == 0 {
				break
			}
			if _, err := fin.Exec(`["` + strings.Join(ids, `","`) + `"]`); err != nil {
				b.Fatal(err)
			}
		}
		took += time.Since(start)
		cpus += cpu() - c0
	}
	b.ReportMetric(float64(20000*b.N)/took.Seconds(), "jobs/s")
	b.ReportMetric(float64(cpus.Nanoseconds())/1000/float64(20000*b.N), "cpuµs/job")
}
