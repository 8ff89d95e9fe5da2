"""Sending the reports of jobs' ends over HTTPS, signed as Standard Webhooks says."""

from .sender import HttpWebhookSender

__all__ = ["HttpWebhookSender"]
