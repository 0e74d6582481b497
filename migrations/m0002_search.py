"""Full-text search over what users said, and what history with one peer needs of an index.

What is searched is the text that is current for somebody: a message, or its newest edit in place of it. The users for whom
it is current are tokens of the index itself, so that a search looks at nobody else's messages, however many there are. The
committing transaction writes and removes the rows of the index together with the messages; there are no triggers, which
would work row by row.
"""

from __future__ import annotations

from sqlite_utils import Database

# The sender has every message and every edit of it; the recipient those that were not kept away by a block. So the newest
# text may be one for the sender and another one for the recipient. With the seq in it, in slices of 4,096, a token stands
# for so many messages at most: FTS5 looks for a row that holds several tokens until it has found one, whatever bound is
# given to the row ids, and would not stop before it has compared all of the user's messages.
SEARCHABLE = """
    CREATE VIEW searchable AS
    SELECT
        id,                                       -- of the message or edit
        owners || ' c' || conversation AS owners, -- for whom its text is the current one: u<users.id>s<seq / 4096>, one
                                                  -- or two of them; and where it was said: c<conversations.id>
        text                                      -- what was said
    FROM (
        SELECT m.id AS id, m.conversation AS conversation, m.text AS text, trim(
            CASE WHEN NOT EXISTS (
                SELECT 1 FROM messages AS e
                WHERE e.target = CASE m.kind WHEN 1 THEN m.target ELSE m.id END AND e.kind = 1
                    AND (e.peer_seq = 0) IN (0, 1) AND e.id > m.id
            ) THEN 'u' || m.sender || 's' || (m.seq / 4096) ELSE '' END
            || CASE WHEN m.peer_seq > 0 AND NOT EXISTS (
                SELECT 1 FROM messages AS e
                WHERE e.target = CASE m.kind WHEN 1 THEN m.target ELSE m.id END AND e.kind = 1
                    AND (e.peer_seq = 0) = 0 AND e.id > m.id
            ) THEN ' u' || (c.a + c.b - m.sender) || 's' || (m.peer_seq / 4096) ELSE '' END
        ) AS owners
        FROM messages AS m CROSS JOIN conversations AS c ON c.id = m.conversation
        WHERE m.text NOTNULL -- neither a deletion nor deleted
    )
    WHERE owners <> ''
"""

# What a message is to those who look for it: its kind (0 message, 1 edit, 2 deletion), 4 more if it is in its sender's log
# only, 8 more if it has no text. With this in the index between the sender and the row id, which is in commit order, history
# and unread counts meet none of the edits, the deleted ones and what a block kept away, however many there are.
CLASS = "(kind + 4 * (peer_seq = 0) + 8 * (text IS NULL))"

# The content stays in messages: the index holds words and where they are.
SEARCH = """
    CREATE VIRTUAL TABLE search USING fts5 (
        owners,     -- see searchable
        text,       -- what was said, by its words without case and accents
        content = 'searchable', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
    )
"""


def up(db: Database) -> None:
    """Create the index, and fill it from the messages there are."""
    db.execute("DROP INDEX messages_of_conversation")
    db.execute(f"CREATE INDEX messages_of_conversation ON messages (conversation, sender, {CLASS})")
    # The edits of a message are found among any number of replies to it, and those in the recipient's log among any number
    # that a block kept away.
    db.execute("DROP INDEX messages_about")
    db.execute("CREATE INDEX messages_about ON messages (target, kind, (peer_seq = 0)) WHERE target IS NOT NULL")
    db.execute(SEARCHABLE)
    db.execute(SEARCH)
    db.execute("INSERT INTO search (search) VALUES ('rebuild')")


def down(db: Database) -> None:
    """Drop the index and the view. Edits and deletions stay: the older schema holds them."""
    db.execute("DROP TABLE search")
    db.execute("DROP VIEW searchable")
    db.execute("DROP INDEX messages_about")
    db.execute("CREATE INDEX messages_about ON messages (target) WHERE target IS NOT NULL")
    db.execute("DROP INDEX messages_of_conversation")
    db.execute("CREATE INDEX messages_of_conversation ON messages (conversation)")
