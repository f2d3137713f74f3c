-- +goose Up
-- A few lines are in two files, so a feature is known by where it stands, not by what it says.
CREATE TABLE features (
	release  INTEGER NOT NULL, -- releases.minor
	line     INTEGER NOT NULL,
	package  TEXT    NOT NULL,
	platform TEXT    NOT NULL, -- '' = all of them
	symbol   TEXT    NOT NULL,
	PRIMARY KEY (release, line)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE features;
