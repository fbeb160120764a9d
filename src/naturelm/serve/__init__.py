"""An HTTP API and a web page over one loaded model."""
