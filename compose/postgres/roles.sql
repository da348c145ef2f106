-- Runs once, when the container makes the database. Migrations run as the owner; workers and the
-- command line log in with what the migrations grant to sigctl_app, and no more.
\getenv password POSTGRES_WORKER_PASSWORD
CREATE ROLE sigctl_app NOLOGIN;
CREATE ROLE sigctl_worker LOGIN PASSWORD :'password' IN ROLE sigctl_app;
