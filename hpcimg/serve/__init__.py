"""The hub's HTTP edge: a registry for every client, the REST interface and the page."""
