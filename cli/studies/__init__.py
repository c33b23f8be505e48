"""Commands about scaling."""
