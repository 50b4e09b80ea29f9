-- The database behind `orders-db`: some data, the roles that sessions become members of, and the gateway's own
-- administrator. That one is no superuser: it may create the sessions' roles, pass these three on, and end sessions.
--
--   psql -v gateway_password=… -f orders.sql app
CREATE ROLE app_reader NOLOGIN;
CREATE ROLE app_writer NOLOGIN;
CREATE ROLE app_owner NOLOGIN;
CREATE ROLE onus_gateway LOGIN CREATEROLE PASSWORD :'gateway_password' IN ROLE pg_signal_backend;
GRANT app_reader, app_writer, app_owner TO onus_gateway WITH ADMIN OPTION;

CREATE TABLE orders (
  id       int PRIMARY KEY,
  customer text NOT NULL,
  status   text NOT NULL,
  total    numeric(10, 2) NOT NULL
);
INSERT INTO orders
  SELECT i, 'customer ' || i, CASE WHEN i = 42 THEN 'stuck' ELSE 'paid' END, i * 1.5
  FROM generate_series(1, 1000) AS i;

-- A function that looks harmless in a SELECT.
CREATE FUNCTION cancel_everything() RETURNS void LANGUAGE sql AS $$ UPDATE orders SET status = 'cancelled' $$;

GRANT USAGE ON SCHEMA public TO app_reader, app_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_writer;
GRANT ALL ON SCHEMA public TO app_owner;
ALTER TABLE orders OWNER TO app_owner;
