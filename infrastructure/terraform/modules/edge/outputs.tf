output "address" {
  description = "Address that the host name must point to."
  value       = google_compute_global_address.public.address
}
