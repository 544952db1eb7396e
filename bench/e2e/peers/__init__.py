"""What is measured: softlan, the others, and the kernel's own limits."""
