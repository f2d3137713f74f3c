package main

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"
)

// unreadable are the errors of SQLite's tokenizer and parser, which do not depend
// on what tables there are. The parser stops at the first fault of a statement, so
// each statement is looked at by itself.
var unreadable = regexp.MustCompile(`syntax error|incomplete input|unrecognized token`)

// sqliteSyntax compiles a text, statement by statement and without running any, in
// an empty database in memory.
func sqliteSyntax(ctx context.Context, text string) error {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer db.Close()
	for _, s := range statements(text) {
		if err := compile(ctx, db, s.text); err != nil && unreadable.MatchString(err.Error()) {
			return fmt.Errorf("line %d: %w", s.line, err)
		}
	}
	return nil
}

func compile(ctx context.Context, db *sql.DB, text string) error {
	compiled, err := db.PrepareContext(ctx, text)
	if err != nil {
		return err
	}
	defer compiled.Close()
	return nil
}

// statement is one of a text, and the line where it begins.
type statement struct {
	line int
	text string
}

// token is a run of blanks, a comment, a quoted text, a word, or one other
// character. Quotes that do not end run to the end, as SQLite sees them.
var token = regexp.MustCompile("(?s)" + strings.Join([]string{
	`\s+`, `--[^\n]*`, `/\*.*?(?:\*/|$)`,
	`'[^']*(?:'|$)`, `"[^"]*(?:"|$)`, "`[^`]*(?:`|$)", `\[[^\]]*(?:\]|$)`,
	`[A-Za-z0-9_$\x{80}-\x{10FFFF}]+`, `.`,
}, "|"))

// trigger is how the words of a statement begin whose body has semicolons.
var trigger = regexp.MustCompile(`^(?:explain )?create (?:temp |temporary )?trigger `)

// statements cuts a text at its semicolons, except in quotes, in comments and in the
// body of a trigger, which goes on to "; END;" (as sqlite3_complete has it).
func statements(text string) []statement {
	var all []statement
	var words [2]string // the last two tokens that mean something
	head, begin := "", -1
	line, from := 1, 1
	for _, at := range token.FindAllStringIndex(text, -1) {
		t := text[at[0]:at[1]]
		meaning := !strings.HasPrefix(t, "--") && !strings.HasPrefix(t, "/*") && strings.TrimSpace(t) != ""
		switch {
		case !meaning:
		case t == ";" && begin >= 0 && (!trigger.MatchString(head) || words == [2]string{";", "end"}):
			all = append(all, statement{from, text[begin:at[1]]})
			head, begin, words = "", -1, [2]string{}
		case t == ";" && begin < 0: // an empty statement
		default:
			if begin < 0 {
				begin, from = at[0], line
			}
			if len(head) < 100 { // the words of "create temporary trigger" and what precedes them
				head += strings.ToLower(t) + " "
			}
			words = [2]string{words[1], strings.ToLower(t)}
		}
		line += strings.Count(t, "\n")
	}
	if begin >= 0 {
		all = append(all, statement{from, text[begin:]})
	}
	return all
}
