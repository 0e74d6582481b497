"""The numbered steps from an empty file to the newest schema; inside the wheel as ``trio_chat/migrations``.

Each ``m<number>_<what>.py`` defines ``up(db)`` and ``down(db)``, both of which run inside a transaction that is not theirs
to end. A step that was released is never edited: a later one changes what it did.
"""
