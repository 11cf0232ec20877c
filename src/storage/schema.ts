/**
 * The format of `keyfold.db`, version 1. A change to it is a new version.
 *
 * Each partition of a topic has a table of its own: appending to it is twice as fast as to one large table, and its positions are the
 * row ids, dense from 1. A journal's rows are keyed by the id of its row in `journal`.
 */

/** "kfld". */
export const applicationId = 0x6b_66_6c_64

export const formatVersion = 1

/** Read back from a file, never assumed: a new version may add another. */
export const topicHash = "fnv1a32"

/** What an empty file becomes. Times are REAL: they hold any number that a job may set, and SQLite stores whole ones as integers. */
export const createDatabase = `
  PRAGMA page_size = 8192;
  PRAGMA application_id = ${applicationId};
  PRAGMA user_version = ${formatVersion};
  BEGIN;
  CREATE TABLE topic(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL, hash TEXT NOT NULL, created TEXT NOT NULL
  );
  CREATE TABLE writer(
    topic INTEGER, partition INTEGER, writer TEXT, number INTEGER NOT NULL, PRIMARY KEY(topic, partition, writer)
  ) WITHOUT ROWID;
  CREATE TABLE journal(
    id INTEGER PRIMARY KEY, query TEXT NOT NULL, stage TEXT NOT NULL, partition INTEGER NOT NULL,
    epoch INTEGER NOT NULL, revision INTEGER NOT NULL, fingerprint TEXT, progress TEXT, UNIQUE(query, stage, partition)
  );
  CREATE TABLE state(journal INTEGER, key TEXT, value BLOB, timeout_at REAL, PRIMARY KEY(journal, key)) WITHOUT ROWID;
  CREATE INDEX state_timeout ON state(journal, timeout_at, key) WHERE timeout_at IS NOT NULL;
  CREATE TABLE delivery(
    journal INTEGER, revision INTEGER, delivery INTEGER, sequence INTEGER, sink TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY(journal, revision, delivery, sequence)
  ) WITHOUT ROWID;
  COMMIT;
  PRAGMA journal_mode = WAL;
`

export const recordTableName = (topicId: number, partition: number): string => `records_${topicId}_${partition}`

export const createRecordTable = (table: string): string =>
  `CREATE TABLE ${table}(position INTEGER PRIMARY KEY, published_at REAL NOT NULL, headers TEXT, payload BLOB NOT NULL)`

/**
 * Of every connection. A commit is on disk when it returns (FULL: one fsync, shared by a group of writes). Savepoints and sorts stay in
 * memory; the page cache is bounded.
 */
export const connectionSettings = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA temp_store = MEMORY;
  PRAGMA cache_size = -32768;
`

/** How long a writer waits for another process's commit. */
export const busyMsMax = 10_000
