-- +goose Up
CREATE TABLE releases (
	minor    INTEGER PRIMARY KEY, -- 0 is Go 1, 26 is Go 1.26
	name     TEXT    NOT NULL,
	year     INTEGER NOT NULL,
	features INTEGER NOT NULL     -- what its file promises; the import measures its progress by it
);

-- +goose Down
DROP TABLE releases;
