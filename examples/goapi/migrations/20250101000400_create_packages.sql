-- +goose Up
-- After the import on purpose: one pass over finished data is faster than keeping an index up to date with every row.
CREATE INDEX features_by_package ON features (package, release);

CREATE VIEW packages AS
SELECT package AS name, min(release) AS since, count(*) AS features
FROM features
GROUP BY package;

CREATE TABLE growth (
	package  TEXT    PRIMARY KEY,
	recent   INTEGER NOT NULL, -- features that the last releases added
	features INTEGER NOT NULL
);

CREATE TABLE report (
	text TEXT NOT NULL
);

-- +goose Down
DROP TABLE report;
DROP TABLE growth;
DROP VIEW packages;
DROP INDEX features_by_package;
