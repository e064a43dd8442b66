"""Carrying out an approved plan: the durable engine, its steps, the ledger, locks and recovery."""
