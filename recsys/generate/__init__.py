"""The oracles behind generative ops: batched, cached by content; torch, transformers and httpx stay here."""
