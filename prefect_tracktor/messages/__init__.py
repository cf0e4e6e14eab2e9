"""Messages to customers: templates, rendering, email and HTTP channels."""
