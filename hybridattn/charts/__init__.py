"""How charts look (`figure`), and those of single results (`views`); matplotlib is loaded when one is drawn."""
