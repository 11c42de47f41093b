-- How far a long piece of work has come, so that it goes on there after an interruption.
CREATE TABLE progress (
    name       text        PRIMARY KEY,
    position   bigint      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
