-- How functions.tsv is made: run with `psql -At -F <tab>` on a freshly initialised PostgreSQL 15 cluster.
-- Columns: name, volatilities of all overloads, kinds of all overloads.
select proname,
       string_agg(distinct provolatile::text, '' order by provolatile::text),
       string_agg(distinct prokind::text, '' order by prokind::text)
  from pg_proc
 where pronamespace = 'pg_catalog'::regnamespace
 group by 1 order by 1;
